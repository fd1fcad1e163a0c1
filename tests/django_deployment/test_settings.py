"""The settings: each value is used as it was set, and a bad one ends the start with one line."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import redis.asyncio
from conftest import DAPHNE, ROOT
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings
from django.views.debug import ExceptionReporter
from django_client import begin_http_request, run_async
from hypothesis import given
from hypothesis import strategies as st
from programs import assert_quiet, listening, running, until
from services import site_folder
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from broadcast_server.admission.token import token_from, validate_token
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.console.time_limit import run_within
from django_site.configuration import own_hosts
from django_site.configuration.database_url import database_of
from django_site.configuration.environment import Environment
from django_site.configuration.mail_url import mail_of
from django_site.configuration.own_hosts import OwnHosts
from django_site.configuration.redis_url import SENTINEL_TIMEOUT_S, redis_of
from django_site.configuration.secret_key import own_secret_key
from django_site.configuration.service_url import ServiceURL
from django_site.configuration.startup_failure import FINAL, StartupFailure

AWKWARD = (
    "$BROADCAST_LOGIN",
    "$",
    "$$x",
    "\\$x",
    "${HOME}",
    "#x",
    "a#b",
    "'quoted'",
    '"quoted"',
    "`id`",
    "100%",
    "%41",
    "%(x)s",
    "back\\slash",
    "a,b;c=d",
    "a:b@c/d?e&f",
    "[x]",
    "x" * 1024,
)
"""Values of secrets in which some software sees more than characters."""


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Django's command line."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **variables},
        timeout=60,
    )


def settings(*names: str, folder: Path, **variables: str) -> list[str]:
    """Return the reprs of settings of a site that starts with *variables*."""
    read = ", ".join(f"repr(settings.{name})" for name in names)
    command = f"from django.conf import settings; print({read}, sep='\\n')"
    done = manage("shell", "--no-imports", "-c", command, BROADCAST_DATA=str(folder), **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-len(names) :]


# -- secrets --


@pytest.mark.parametrize("value", AWKWARD)
def test_a_secret_is_used_as_it_is(value: str) -> None:
    """No character of a secret has a meaning, whichever variable it names."""
    variables = {"SECRET": value, "BROADCAST_LOGIN": "required", "x": "wrong", "HOME": "wrong"}
    assert Environment(variables).secret("SECRET") == value
    assert validate_token(value, "it") == value


def test_a_secret_may_come_from_a_file() -> None:
    """The line break at the end of a file is no part of a secret; other spaces are."""
    for value in ("a b\n", "a b\r\n", "a b"):
        assert Environment({"SECRET": value}).secret("SECRET") == "a b"
    assert Environment({"SECRET": " ä "}).secret("SECRET") == " ä "
    assert Environment({}).secret("SECRET") is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "it is set and empty, a secret may be missing (give it a value, or unset it)"),
        (" \t ", "it is set and empty, a secret may be missing (give it a value, or unset it)"),
        ("\n", "it is set and empty, a secret may be missing (give it a value, or unset it)"),
        ("hush\nhush", "it has a line break or another control character in it"),
        ("hush\x1b[2J", "it has a line break or another control character in it"),
        ("hush\udcff", "it is not UTF-8"),
    ],
)
def test_a_secret_that_cannot_be_used(value: str, problem: str) -> None:
    """The error has the variable's name and not its value."""
    with pytest.raises(StartupFailure) as caught:
        Environment({"SECRET": value}).secret("SECRET")
    assert str(caught.value) == f"SECRET: {problem}"


@pytest.mark.parametrize(
    "command",
    [("manage.py", "check"), ("manage.py", "check", "--deploy"), ("manage.py", "migrate")],
    ids=" ".join,
)
def test_every_command_prints_the_same_line(command: tuple[str, ...]) -> None:
    """A setting that cannot be used is one line for each command, without a traceback."""
    done = manage(*command[1:], BROADCAST_DATA="/nonexistent")
    line = "BROADCAST_DATA: /nonexistent: no such file or directory (name a folder)\n"
    assert (done.returncode, done.stdout, done.stderr) == (FINAL, "", line)


def test_a_server_prints_no_traceback_either(tmp_path: Path) -> None:
    """The servers print the same line as `manage.py`; a damaged database has one as well."""
    (tmp_path / "broadcast.sqlite3").write_text("not a database " * 100)
    for folder, words in (
        ("/nonexistent", "no such file or directory (name a folder)"),
        (str(tmp_path), "file is not a database (BROADCAST_DATA moves it)"),
    ):
        with running(*DAPHNE, BROADCAST_DATA=folder) as site:
            assert site.process.wait(60) == FINAL
            assert_quiet(site.errors)
            assert site.errors.splitlines()[-1].endswith(words)


def test_the_database_is_private(tmp_path: Path) -> None:
    """Whatever the umask is, only the owner can read the site's SQLite file, old or new."""

    def modes() -> dict[str, int]:
        files = tmp_path.glob("broadcast.sqlite3*")
        return {each.name: stat.S_IMODE(each.stat().st_mode) for each in files}

    before = os.umask(0)
    try:
        assert manage("migrate", BROADCAST_DATA=str(tmp_path)).returncode == 0
        assert modes() and {*modes().values()} == {0o600}
        for name in modes():
            (tmp_path / name).chmod(0o664)
        with running(*DAPHNE, BROADCAST_DATA=str(tmp_path)) as site:
            url = listening(site).replace("ws:", "http:")
            with urlopen(url, b"hi", timeout=20) as answer:
                assert answer.status == 200
            assert {*modes().values()} == {0o600} and "broadcast.sqlite3-wal" in modes()
            notice = f"the database {tmp_path}/broadcast.sqlite3 was open to other users, its mode"
            assert site.errors.count(notice) == 1
    finally:
        os.umask(before)


def test_an_empty_variable_is_an_unset_one(tmp_path: Path) -> None:
    """Compose sets a variable without a value to the empty string."""
    names = ("DATABASE_URL", "REDIS_URL", "EMAIL_URL", "ALLOWED_HOSTS", "DEBUG", "BROADCAST_RATE")
    empty = dict.fromkeys(names, "")
    found = settings("EMBEDDED", "MAIL", "DEBUG", folder=tmp_path, **empty)
    assert found == ["True", "False", "False"]


def test_checks_of_settings_that_work(tmp_path: Path) -> None:
    """`manage.py check` warns of a variable without effect and of keys that differ."""
    done = manage(
        *("check", "--deploy"),
        BROADCAST_DATA=str(tmp_path),
        BROADCAST_RAET="5",
        BROADCAST_TOKEN="sesame",
        BROADCAST_TOKEN_FILE="/nonexistent",
        DATABASE_URL="postgres://h/d",
    )
    assert done.returncode == 0
    assert (
        "(django_site.W001) BROADCAST_RAET is no setting and has no effect"
        " (did you mean BROADCAST_RATE?)" in done.stderr
    )
    assert "(django_site.W002) SECRET_KEY is not set" in done.stderr
    unread = "BROADCAST_TOKEN_FILE has no effect, as BROADCAST_TOKEN is set (unset one)"
    assert f"(django_site.W001) {unread}" in done.stderr


# -- addresses --


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_an_encoded_password_is_read_back(password: str) -> None:
    """Every password can be written percent-encoded, and reaches each library as it was."""
    url = f"//bob:{quote(password, safe='')}@h:5/0"
    assert database_of(f"postgres:{url}")["PASSWORD"] == password
    assert mail_of(f"smtp:{url}".removesuffix("/0"))["EMAIL_HOST_PASSWORD"] == password
    pool = redis.asyncio.ConnectionPool.from_url(str(redis_of(f"redis:{url}")))
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == (
        "bob",
        password,
    )


@pytest.mark.parametrize(
    "password",
    ["$x", "'q'", '"', "a b", "back\\slash", "a:b", "a@b", "+", "ä", "℀", "]"],
)
def test_a_password_that_needs_no_encoding(password: str) -> None:
    """Only the characters that end a part of an address have to be encoded in it."""
    assert database_of(f"postgres://u:{password}@h/d")["PASSWORD"] == password
    pool = redis.asyncio.ConnectionPool.from_url(str(redis_of(f"redis://:{password}@h/0")))
    assert pool.connection_kwargs["password"] == password


@pytest.mark.parametrize(
    "url",
    [
        "",
        "$URL",
        "h/d",
        "mysql://u:hush@h/d",
        "postgres://u:hu#sh@h/d",
        "postgres://u:hu/sh@h/d",
        "postgres://u:hu?sh@h/d",
        "postgres://u:1?hush@h/d",
        "postgres://u:1/hush@h/d",
        "postgres://u:hush@h:x/d",
        "postgres://u:hush@h:70000/d",
        "postgres://u:hush@h:0/d",
        "postgres://u:hush@[::1/d",
        "postgres://u:hush%ff@h/d",
        "postgres://u:@h/d",
        "postgres://u:hush@h",
        "sqlite://",
        "sqlite://:memory:",
    ],
)
def test_an_address_that_cannot_be_used(url: str) -> None:
    """The error does not contain the address, which has a password in it."""
    with pytest.raises(ValueError) as caught:
        database_of(url)
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_addresses_of_databases() -> None:
    """Ports, Unix sockets, IPv6 and what the query sets."""
    assert database_of("postgresql://u:p@[::1]:6/d?sslmode=require&connect_timeout=3") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "d",
        "USER": "u",
        "PASSWORD": "p",
        "HOST": "::1",
        "PORT": "6",
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"sslmode": "require", "connect_timeout": 3, "tcp_user_timeout": 20_000},
    }
    for url in ("postgres://u:@/d?host=/run/x", "postgres:////run/x/d", "postgres://%2Frun%2Fx/d"):
        found = database_of(url)
        assert "/run/x" in (found["HOST"], found["OPTIONS"].get("host")) and found["NAME"] == "d"
    found = database_of("postgres://h/d?conn_max_age=none&disable_server_side_cursors=true")
    assert (found["CONN_MAX_AGE"], found["DISABLE_SERVER_SIDE_CURSORS"]) == (None, True)
    assert database_of("sqlite:////a%20b@c")["NAME"] == "/a b@c"


def test_addresses_of_other_services() -> None:
    """What a Redis and a mail server may be called, and what not."""
    assert redis_of("redis://h:1/2?socket_timeout=3") == "redis://h:1/2?socket_timeout=3"
    assert redis_of("redis+sentinel://u:p%2F@a:1,[::1]/main/3?sentinel_password=q&protocol=2") == {
        "master_name": "main",
        "sentinels": [("a", 1), ("::1", 26379)],
        "sentinel_kwargs": {"socket_timeout": SENTINEL_TIMEOUT_S, "password": "q"},
        "username": "u",
        "password": "p/",
        "db": 3,
        "protocol": 2,
    }
    over_tls = redis_of("rediss+sentinel://a/main?ssl_cert_reqs=none")
    assert isinstance(over_tls, dict)
    for options in (over_tls, over_tls["sentinel_kwargs"]):
        assert (options["ssl"], options["ssl_cert_reqs"]) == (True, "none")
    assert redis_of("unix:///run/redis?db=1") == "unix:///run/redis?db=1"
    for url in ("redis://", "redis://h/x", "redis://h/0?what=1", "redis://h?db=x", "unix://h/x"):
        with pytest.raises(ValueError):
            redis_of(url)
    assert mail_of("smtp+tls://h:587")["EMAIL_USE_TLS"] is True
    assert mail_of("smtp+ssl://h")["EMAIL_PORT"] == 465
    with pytest.raises(ValueError, match="it names no host"):
        mail_of("smtp://")
    assert "hush" not in repr(ServiceURL.parse("redis://:hush@h", ("redis",)))


# -- tokens --


async def _close_code(url: str, token: str | None) -> int | None:
    """Return the code with which a client is closed, None if it may join."""
    headers = None if token is None else {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        try:
            await socket.send("hi")
            await run_within(socket.recv(), 10)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
    return None


def test_a_token_is_the_same_in_both_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both servers take the same bytes from the variable and from a file, or refuse both."""
    file = tmp_path / "token"
    for value in (*AWKWARD, "a b", "ä", "a\nb", "", " ", "x" * 1025, "$"):
        file.write_bytes(value.encode() + b"\n")
        found = []
        for variables in ({"BROADCAST_TOKEN": value}, {"BROADCAST_TOKEN_FILE": str(file)}):
            for name in ("BROADCAST_TOKEN", "BROADCAST_TOKEN_FILE"):
                monkeypatch.delenv(name, raising=False)
            for name, text in variables.items():
                monkeypatch.setenv(name, text)
            env = Environment(variables)
            try:
                found.append(settings_of(parse_options(["start"])).token)
            except ValueError:
                found.append("refused")
            try:
                token, path = (env.secret(f"BROADCAST_TOKEN{end}") or "" for end in ("", "_FILE"))
                found.append(token_from(token, path))
            except (ValueError, StartupFailure):
                found.append("refused")
        expected = value if value in AWKWARD else "refused"
        assert found == [expected] * 4, value


def test_a_token_that_looks_like_a_reference(tmp_path: Path) -> None:
    """A token that begins with $ is required of guests, and admits them."""
    token = "$ecret#'\"%41\\"

    async def part(url: str) -> None:
        assert await _close_code(url, None) == 4501
        assert await _close_code(url, token) is None

    with running(*DAPHNE, BROADCAST_DATA=site_folder(tmp_path), BROADCAST_TOKEN=token) as site:
        asyncio.run(part(listening(site)))
        assert "a token is required of everyone without an account" in site.errors
        assert token not in site.errors


def test_a_typed_token_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--token-file "$FILE"` without that variable does not start an open server."""
    with pytest.raises(ValueError, match="--token-file is empty"):
        settings_of(parse_options(["start", "--token-file", ""]))


# -- the secret key --


def test_the_site_makes_its_own_key(tmp_path: Path) -> None:
    """The file is private, and each start finds the same key in it."""
    path = tmp_path / "key"
    key = own_secret_key(path)
    assert len(key) == 64 and own_secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]
    first, second = (settings("SECRET_KEY", folder=tmp_path) for _ in range(2))
    assert first == second != [repr(key)]
    assert settings("SECRET_KEY", folder=tmp_path, SECRET_KEY="$x") == ["'$x'"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """All processes get the key that the file has, whoever writes it."""
    script = (
        "import sys; from pathlib import Path; sys.stdin.read();"
        "from django_site.configuration.secret_key import own_secret_key;"
        "print(own_secret_key(Path(sys.argv[1])))"
    )
    for number in range(5):
        path = tmp_path / str(number)
        command = [sys.executable, "-c", script, str(path)]
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        with ThreadPoolExecutor(len(processes)) as pool:
            keys = {done[0] for done in pool.map(subprocess.Popen.communicate, processes)}
        assert keys == {path.read_bytes()}


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"", 0o600, "it is empty"),
        (b"short\n", 0o600, "it is damaged"),
        (b"\xff" * 64, 0o600, "it is damaged"),
        (b"x" * 65, 0o600, "it is damaged"),
        (b"x" * 64, 0o604, "other users can read or change it"),
    ],
)
def test_a_key_file_that_cannot_be_used(
    content: bytes, mode: int, problem: str, tmp_path: Path
) -> None:
    """The error has the file's name and the remedy, and the file is left alone."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ValueError) as caught:
        own_secret_key(path)
    assert str(caught.value).startswith(f"{path}: {problem} (delete it for a new key")
    assert path.read_bytes() == content


def test_a_key_that_is_no_file(tmp_path: Path) -> None:
    """Folders, pipes and dangling links are errors in words; none of them blocks the start."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "pipe", "link", "folder/none/key"):
        with pytest.raises(ValueError, match="set SECRET_KEY"):
            own_secret_key(tmp_path / name)


# -- hosts --


def test_the_site_serves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, the hosts are loopback and the names and addresses of this machine."""
    addresses = ["192.0.2.7", "2001:db8::7"]
    monkeypatch.setattr(own_hosts, "local_addresses", lambda: addresses)
    monkeypatch.setattr("socket.gethostname", lambda: "Laptop.lan")
    monkeypatch.setattr("socket.getfqdn", lambda: "laptop.example.org")
    hosts = OwnHosts()
    until(lambda: "laptop.example.org" in hosts, "the full name")
    expected = {"localhost", ".localhost", "127.0.0.1", "[::1]", "laptop.lan", "laptop.local"}
    assert {*hosts} == expected | {"laptop.example.org", "192.0.2.7", "[2001:db8::7]"}
    addresses[:] = ["192.0.2.8"]
    hosts._read_at -= own_hosts.REFRESH_S
    assert "192.0.2.8" in list(hosts) and "192.0.2.7" not in list(hosts)


def test_debug_is_off_and_an_error_is_plain(tmp_path: Path) -> None:
    """An invalid host gets a response without a word about the site, and no line in the log."""
    from http.client import HTTPConnection

    redis_url = "redis://:hush@127.0.0.1:1/0"
    for debug in ("", "yes"):
        with running(
            *DAPHNE, BROADCAST_DATA=site_folder(tmp_path), REDIS_URL=redis_url, DEBUG=debug
        ) as site:
            address = listening(site).removeprefix("ws://").rstrip("/")
            for host in ("a,b", "evil.example", "10.9.9.9", ""):
                connection = HTTPConnection(address, timeout=20)
                connection.request("GET", "/", headers={"Host": host})
                response = connection.getresponse()
                text = response.read().decode()
                assert response.status == 400
                assert "hush" not in text and "CHANNEL_LAYERS" not in text
                assert debug or len(text) < 300
                connection.close()
            assert_quiet(site.errors)
            assert "a,b" not in site.errors
            assert ("DEBUG=yes: " in site.errors) is (debug == "yes")
            assert "open: no token, anyone who can reach this port can join" in site.errors


def test_debug_keeps_no_statements(tmp_path: Path) -> None:
    """With DEBUG, a connection keeps no statement, in whichever thread it is used."""
    script = (
        "from threading import Thread\n"
        "from django.db import connection\n"
        "from django_site import models\n"
        "def ask():\n"
        "    for number in range(100): models.Room.objects.filter(name=str(number)).exists()\n"
        "    print(connection.queries_logged, len(connection.queries_log) < 10)\n"
        "ask(); thread = Thread(target=ask); thread.start(); thread.join()\n"
    )
    done = manage("shell", "-c", script, BROADCAST_DATA=site_folder(tmp_path), DEBUG="yes")
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (0, ["True True"] * 2), done.stderr


def test_errors_retain_nothing() -> None:
    """With DEBUG, neither a request nor an error of its is kept after its response."""

    async def request() -> None:
        for target, host in (("/", b"a,b"), ("/admin/x/", b"evil.example"), ("/nowhere", b"x,y")):
            client = begin_http_request("GET", target, (b"host", host))
            client.scope["headers"] = [(b"host", host)]
            await client.send_input({"type": "http.request", "body": b""})
            assert (await client.receive_output(timeout=10))["status"] == 400
            await client.wait(timeout=10)

    async def part() -> None:
        counts = []
        for _ in range(3):
            for _ in range(10):
                await request()
            gc.collect()
            kept = (ASGIRequest, ExceptionReporter, DisallowedHost)
            counts.append(sum(isinstance(each, kept) for each in gc.get_objects()))
        assert max(counts) < 10, counts  # asgiref may still hold those of the last request

    logging.disable(logging.CRITICAL)  # pytest keeps what is logged, with its traceback
    try:
        with override_settings(DEBUG=True):
            run_async(part)
    finally:
        logging.disable(logging.NOTSET)


def test_production_settings_are_clean(tmp_path: Path) -> None:
    """With hosts and nothing else, Django's deployment checks pass."""
    done = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        ALLOWED_HOSTS="example.org",
        BROADCAST_DATA=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
