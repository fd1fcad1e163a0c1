"""Secret addresses: the access logs of the servers, and all other logs, leave secrets out."""

from __future__ import annotations

import logging
import secrets
import signal
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE, UVICORN
from programs import PATIENCE, listening, running
from services import site_folder
from websockets.sync.client import connect

from django_site.configuration.secret_addresses import hide_in_logs, hide_secrets

SECRET = "czx5fg-0a1b2c3d4e5f60718293a4b5c6d7e8f9"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"GET /accounts/reset/MQ/{SECRET}/ HTTP/1.1", "GET /accounts/reset/MQ/.../ HTTP/1.1"),
        (f"/chat/accounts/reset/MQ/{SECRET}", "/chat/accounts/reset/MQ/..."),
        (f"/accounts/reset/MQ/{SECRET}/x?a=b", "/accounts/reset/MQ/.../x?a=b"),
        (f"/accounts/reset//MQ//{SECRET}/", "/accounts/reset//MQ//.../"),
        (f"uri=/accounts/reset/MQ/{SECRET}> took", "uri=/accounts/reset/MQ/...> took"),
        ("/accounts/reset/MQ/set-password/", "/accounts/reset/MQ/set-password/"),
        ("/accounts/reset/", "/accounts/reset/"),
        (f"/?session={SECRET}&room=a", "/?session=...&room=a"),
        (f'"GET /?room=a&session={SECRET} HTTP/1.1"', '"GET /?room=a&session=... HTTP/1.1"'),
        (f"/?Token={SECRET}&session={SECRET}", "/?Token=...&session=..."),
        ("/?sessions=2", "/?sessions=2"),
        ("/?xsession=2&nosession=%3D", "/?xsession=2&nosession=%3D"),
        (f"/?name=x&%73ession={SECRET}&a=b", "/?name=x&%73ession=...&a=b"),
        (f"/?%74oken={SECRET}", "/?%74oken=..."),
        (f"/?%53%65%73%73%69%6F%6e={SECRET}", "/?%53%65%73%73%69%6F%6e=..."),
        (f"/?a=b;session={SECRET}", "/?a=b;session=..."),
        (f"/?+session+={SECRET}&%20token={SECRET}", "/?+session+=...&%20token=..."),
        (f"/?session%3D{SECRET}", "/?session%3D..."),
        (f"/?session=a?b/{SECRET}", "/?session=..."),
        (f"/?next=/%3Fname=x%26session%3D{SECRET}", "/?next=/%3Fname=x%26session%3D..."),
        (f"/?next=%252F%253Fsession%253D{SECRET}", "/?next=%252F%253Fsession%253D..."),
        (f"/accounts/%72eset/MQ/{SECRET}/", "/accounts/%72eset/MQ/.../"),
        (f"/%61ccounts%2freset%2FMQ%2F{SECRET}%2F", "/%61ccounts%2freset%2FMQ%2F...%2F"),
        (f"//accounts//reset/MQ/{SECRET}", "//accounts//reset/MQ/..."),
        (f"/accounts/reset/MQ/set-password-{SECRET}/", "/accounts/reset/MQ/.../"),
        (f"/accounts/reset/MQ/set-password%2D{SECRET}/", "/accounts/reset/MQ/.../"),
        (f"/?a=%2Faccounts%2Freset%2FMQ%2F{SECRET}%2F", "/?a=%2Faccounts%2Freset%2FMQ%2F...%2F"),
    ],
)  # fmt: skip
def test_what_is_hidden(text: str, hidden: str) -> None:
    """Tokens and sessions are left out, wherever an address is; everything else stays."""
    assert hide_secrets(text) == hidden


@pytest.mark.parametrize(
    "text", ["/" * 20_000, "/accounts/reset/" * 2000, "/accounts/reset/MQ" + "%2f" * 20_000,
             "?session" * 5000, "?" + "+" * 20_000, "?" * 20_000, "%25" * 20_000],
    ids=lambda text: text[:21],
)  # fmt: skip
def test_a_long_address_takes_no_long_time(text: str) -> None:
    """No address keeps the server busy: a pattern that is quadratic takes minutes for these."""
    hidden = hide_secrets(f"{text * 10}?session={SECRET}")
    assert hidden.endswith("?session=...")


def test_records_of_any_logger() -> None:
    """Secrets are hidden in a text, in its arguments and in the repr of an argument."""

    class Request:
        def __repr__(self) -> str:
            return f"<Request uri=/accounts/reset/MQ/{SECRET}/>"

    make = logging.getLogRecordFactory()
    try:
        hide_in_logs()
        hide_in_logs()
        make_record = logging.getLogRecordFactory()
        path = f"/?session={SECRET}"
        for text, args in (
            ("%s - %s", ("127.0.0.1", path)), (path, ()), ("%r is slow", (Request(),)),
            ("%(path)s", ({"path": path},)), (f"%s {path}", (1,)),
        ):  # fmt: skip
            record = make_record("x", logging.INFO, "x.py", 1, text, args, None)
            assert SECRET not in record.getMessage()
            assert "..." in record.getMessage()
        access = ("127.0.0.1:1", "GET", path, "1.1", 200)
        record = make_record(
            "uvicorn.access", logging.INFO, "x.py", 1, "%s %s %s %s %d", access, None
        )
        assert record.args == ("127.0.0.1:1", "GET", "/?session=...", "1.1", 200)
        odd = make_record("x", logging.INFO, "x.py", 1, "%s %s", ("one",), None)
        assert odd.args == ("one",)
    finally:
        logging.setLogRecordFactory(make)


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_no_log_of_a_server_has_a_secret(command: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing that a server prints has the token of a mail, or a session in an address."""
    mail = "consolemail://"
    with running(*command, BROADCAST_DATA=site_folder(tmp_path), EMAIL_URL=mail) as site:
        url = listening(site)
        session = secrets.token_hex(16)
        connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
        for method, path in (
            ("GET", f"/accounts/reset/MQ/{SECRET}/"),
            ("POST", f"/accounts/reset/MQ/{SECRET}/"),
            ("GET", f"/stream?room=a&poll=1&session={session}"),
            ("POST", f"/?room=a&session={session}"),
            ("GET", f"/nothing?session={session}"),
            ("GET", f"/stream?room=a&poll=1&%73ession={session}"),
            ("GET", f"/accounts%2F%72eset/MQ/{SECRET}/"),
        ):
            connection.request(method, path, b"hi" if method == "POST" else None)
            connection.getresponse().read()
        connection.close()
        with connect(f"{url}?session={session}&room=last", proxy=None):
            pass
        site.signal(signal.SIGTERM)
        printed = site.output + site.errors
        assert "/accounts/reset/MQ/.../" in printed and "/nothing?session=..." in printed
        assert SECRET not in printed and session not in printed
