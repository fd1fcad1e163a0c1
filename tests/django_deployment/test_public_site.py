"""Where users reach the site: links in mails, and the prefix below which a proxy has it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from accounts_client import account, browser_of, mail_backend
from conftest import DAPHNE, UVICORN
from curl import send_request
from django.core import mail
from django.db import connections
from django.test import RequestFactory, override_settings
from django.urls import path as route
from django.urls import set_script_prefix
from django_client import begin_http_request
from programs import listening, running
from services import site_folder

from django_site.accounts import views
from django_site.accounts.forms import ResetForm
from django_site.accounts.public_site import public_site
from django_site.configuration.mail_url import mail_of, mailers_of
from django_site.configuration.public_url import PublicURL, parse_public_url
from django_site.urls import urlpatterns as site_urls

urlpatterns = [
    route("reset/<uidb64>/<token>/", views.ResetConfirm.as_view(), name="password_reset_confirm"),
    *site_urls,
]
"""The URLs of a site that can send mail."""

PUBLIC = parse_public_url("https://chat.example.org:8443/chat/")


@pytest.fixture
def mails() -> Iterator[None]:
    """A site that can send mail."""
    backend = mail_backend("django.core.mail.backends.locmem.EmailBackend")
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    hosts = [".example.org", "[::1]"]
    with override_settings(
        **backend, ROOT_URLCONF=__name__, ALLOWED_HOSTS=hosts, PASSWORD_HASHERS=hashers
    ):
        yield


def _do(job: Callable[[], None]) -> None:
    try:
        job()
    finally:
        connections.close_all()


def mailed(host: str, port: str, *, secure: bool = False) -> str:
    """Request a mail under *host*, from a server that listens at *port*, and return it."""
    whose = account()
    whose.email = f"{whose.username}@example.org"
    whose.save()
    factory = RequestFactory(HTTP_HOST=host, SERVER_PORT=port)
    request = factory.post("/accounts/reset/", secure=secure)
    request.META["SERVER_PORT"] = port
    form = ResetForm({"email": whose.email})
    assert form.is_valid()
    form.save(
        subject_template_name="accounts/reset_subject.txt",
        email_template_name="accounts/reset_mail.txt",
        use_https=request.is_secure(),
        request=request,
    )
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_do, form.job).result()
    return str(mail.outbox[-1].body)


@pytest.mark.usefixtures("mails")
@pytest.mark.parametrize(
    ("host", "port", "secure", "address"),
    [
        ("chat.example.org", "8000", False, "http://chat.example.org/"),
        ("chat.example.org:1337", "8000", False, "http://chat.example.org/"),
        ("chat.example.org:1337", "8000", True, "https://chat.example.org/"),
        ("chat.example.org.", "8000", False, "http://chat.example.org/"),
        ("Chat.Example.org.:1337", "8000", False, "http://chat.example.org/"),
        ("chat.example.org:8000", "8000", False, "http://chat.example.org:8000/"),
        ("chat.example.org:80", "80", False, "http://chat.example.org/"),
        ("chat.example.org:443", "8000", True, "https://chat.example.org/"),
        ("chat.example.org:443", "443", True, "https://chat.example.org/"),
        ("chat.example.org:0", "0", False, "http://chat.example.org/"),
        ("[::1]:8000", "8000", False, "http://[::1]:8000/"),
    ],
)  # fmt: skip
def test_a_mail_links_to_the_site(host: str, port: str, secure: bool, address: str) -> None:
    """Whoever requests a mail for somebody else chooses neither a port nor a spelling of a name."""
    text = mailed(host, port, secure=secure)
    found = re.findall(r"https?://\S+", text)
    assert [each.partition("reset/")[0] for each in found] == [address]
    assert f"at {address.split('/')[2]}." in text


@pytest.mark.usefixtures("mails")
@pytest.mark.parametrize("host", ["chat.example.org:1337", "other.example.org.", "[::1]:8000"])
def test_a_mail_links_to_the_public_address(host: str) -> None:
    """A site that knows its address uses it, whatever a request says."""
    with override_settings(BROADCAST_PUBLIC_URL=PUBLIC):
        assert "https://chat.example.org:8443/reset/" in mailed(host, "8000")


@pytest.mark.usefixtures("mails")
def test_a_mail_links_below_the_prefix() -> None:
    """The thread that sends mails uses the prefix of the request."""
    set_script_prefix("/chat/")
    try:
        assert "http://chat.example.org/chat/reset/" in mailed("chat.example.org", "8000")
        request = RequestFactory(HTTP_HOST="chat.example.org").get("/")
        assert public_site(request).socket_address == "ws://chat.example.org/chat/"
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://Chat.example.org./", PublicURL("https", "chat.example.org", 443, "")),
        ("http://[0::1]:80/a/b", PublicURL("http", "[::1]", 80, "/a/b")),
        ("https://a:443/", PublicURL("https", "a", 443, "")),
    ],
)
def test_public_addresses(text: str, public: PublicURL) -> None:
    """Addresses that mean the same are the same."""
    assert parse_public_url(text) == public
    assert public.netloc == public.host


def test_the_address_on_the_page_of_tokens() -> None:
    """A program is shown the address of the rooms, with the prefix and without the odd port."""
    alice = account()
    page = browser_of(alice).get("/accounts/tokens/", HTTP_HOST="testserver:1337").content.decode()
    assert "testserver:1337" not in page
    request = RequestFactory(SERVER_PORT="80").get("/")
    assert public_site(request).socket_address == "ws://testserver/"
    with override_settings(BROADCAST_PUBLIC_URL=PUBLIC):
        assert public_site(request).socket_address == "wss://chat.example.org:8443/"


def test_settings_of_newer_versions() -> None:
    """The settings for mail in Django 6.1 say the same as those before it."""
    assert mailers_of(mail_of("smtp+tls://u:hush@h:587?timeout=3")) == {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {
                "host": "h", "port": 587, "username": "u", "password": "hush", "use_tls": True,
                "use_ssl": False, "timeout": 3,
            },
        }
    }  # fmt: skip
    assert mailers_of(mail_of("consolemail://"))["default"]["OPTIONS"] == {}
    assert mailers_of(mail_of("filemail:////tmp"))["default"]["OPTIONS"] == {"file_path": "/tmp"}


# -- prefixes --


async def get(path: str, root_path: str) -> tuple[int, dict[bytes, bytes], str]:
    """Request a page, from a server whose root path is set."""
    client = begin_http_request("GET", path, (b"accept", b"text/html"))
    client.scope["root_path"] = root_path
    await client.send_input({"type": "http.request", "body": b""})
    start: dict[str, Any] = await client.receive_output(timeout=10)
    body = b""
    while (event := await client.receive_output(timeout=10)).get("more_body", False):
        body += event["body"]
    await client.wait(timeout=10)
    return start["status"], dict(start["headers"]), (body + event.get("body", b"")).decode()


def addresses(page: str) -> set[str]:
    """Return the addresses in a page that begin at the root of the host."""
    return set(re.findall(r'(?:href|src|action)="(/[^"]*)"', page))


@pytest.mark.parametrize("passed", ["/chat", "", "/chat/chat"], ids=["kept", "removed", "doubled"])
@pytest.mark.parametrize("given", ["server", "setting"])
def test_nothing_leads_out_of_the_prefix(passed: str, given: str) -> None:
    """All links, files and redirects are below the prefix, whatever a proxy does with the path.

    A proxy passes a path on with its prefix or without it; uvicorn adds its own.
    """

    async def part() -> None:
        for path in ("/", "/accounts/login/"):
            status, _, page = await get(passed + path, root_path)
            assert status == 200
            found = addresses(page)
            assert found and all(each.startswith("/chat/") for each in found), found
        for path, target in (
            ("/accounts/tokens/", "/chat/accounts/login/?next=/chat/accounts/tokens/"),
            ("/admin/", "/chat/admin/login/?next=/chat/admin/"),
            ("/admin", "/chat/admin/"),
        ):
            status, headers, _ = await get(passed + path, root_path)
            assert (status, headers[b"Location"].decode()) == (302, target)
        for path in ("/static/admin/css/base.css", "/healthz", "/stream?poll=1"):
            assert (await get(passed + path, root_path))[0] == 200
        assert (await get("/chatter/accounts/login", root_path))[0] == 404

    root_path = "/chat" if given == "server" else ""
    public = parse_public_url("https://testserver/chat/") if given == "setting" else None
    with override_settings(BROADCAST_PUBLIC_URL=public):
        asyncio.run(part())


def test_links_below_a_prefix_that_is_not_known() -> None:
    """The page has no link to a page that may be somewhere else."""

    async def part() -> None:
        status, _, page = await get("/chat/", "")
        assert (status, addresses(page)) == (200, set())
        assert addresses((await get("/", ""))[2]) == {"/accounts/login/?next=%2F"}

    asyncio.run(part())


def test_the_admins_files_have_the_prefix_of_each_request() -> None:
    """The prefix of a file is not that of the first request."""
    from django.templatetags.static import static

    try:
        for prefix in ("/", "/chat/", "/other/"):
            set_script_prefix(prefix)
            assert static("admin/css/base.css") == f"{prefix}static/admin/css/base.css"
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize(
    "command",
    [(*DAPHNE, "--root-path", "/chat"), (*UVICORN, "--root-path", "/chat")],
    ids=["daphne", "uvicorn"],
)
def test_the_root_path_of_a_server(command: tuple[str, ...], tmp_path: Path) -> None:
    """Daphne and uvicorn pass their option on in different ways, and both work."""
    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:
        url = listening(site)

        async def part() -> None:
            for path in ("/chat/", "/", "/accounts/login/", "/chat/accounts/login/"):
                reply = await send_request(url, "GET", path, "Accept: text/html")
                assert reply.status == 200
                found = addresses(reply.body)
                assert found and all(each.startswith("/chat/") for each in found), found
            reply = await send_request(url, "POST", "/chat/accounts/x/", "Content-Length: 0")
            assert reply.status == 404

        asyncio.run(part())
