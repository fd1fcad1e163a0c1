"""docs/deploy.md: its configurations work with real proxies, systemd and Docker's health check."""

from __future__ import annotations

import base64
import json
import re
import runpy
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from certificates import write_pair
from programs import PATIENCE, ROOT, Running, running, shell, until

from broadcast_server.cli.options import parse_options

DOCUMENT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")

NGINX = """\
daemon off;
pid {folder}/pid;
error_log stderr warn;
worker_shutdown_timeout 50ms;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""
"""What surrounds the document's server block, so that nginx runs as a test's child process."""

CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


class ServerBehindProxy(NamedTuple):
    """A server behind a proxy. *authority* is the proxy's certificate."""

    server: Running
    proxy: Running
    url: str
    port: int
    authority: Path


def block(language: str, path: str = "") -> str:
    """Return a code block of the document, by its language and, if there are several, its path."""
    pattern = rf"^```{language}\n((?:# {re.escape(path)}\n)?.*?)^```$"
    found: list[str] = re.findall(pattern, DOCUMENT, re.MULTILINE | re.DOTALL)
    return next(each for each in found if path in each.partition("\n")[0])


def find(program: str) -> str:
    """Return the path of a system program, or skip the test."""
    path = shutil.which(program, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"there is no {program} here")
    return path


def free_port() -> int:
    """Return a port at which nothing listens, for a program that cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running_behind(kind: str, program: list[str], folder: Path) -> Iterator[ServerBehindProxy]:
    """Start a server, and a proxy in front of it with the document's configuration."""
    path = find(kind)
    port, cert, key = free_port(), folder / "cert.pem", folder / "key.pem"
    write_pair(cert, key)
    with ExitStack() as stack:
        start = (*program, "start", "--port", "0", "--trusted-proxy", "127.0.0.1")
        server = stack.enter_context(running(*start))
        if kind == "nginx":
            text = NGINX.format(folder=folder, server=block("nginx", "/etc/nginx"))
            text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
            text = text.replace("/etc/ssl/chat.example.org.pem", str(cert))
            text = text.replace("/etc/ssl/chat.example.org.key", str(key))
            command = [path, "-p", str(folder), "-e", "stderr", "-c", str(folder / "conf")]
        else:
            text = CADDY + block("caddy", "/etc/caddy")
            site = f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {cert} {key}\n"
            text = text.replace("chat.example.org {\n", site)
            command = [path, "run", "--adapter", "caddyfile", "--config", str(folder / "conf")]
        (folder / "conf").write_text(text.replace("127.0.0.1:8765", f"127.0.0.1:{server.port}"))
        home = str(folder)
        proxy = stack.enter_context(
            running(*command, HOME=home, XDG_CONFIG_HOME=home, XDG_DATA_HOME=home)
        )
        until(
            lambda: is_listening(port) or proxy.process.poll() is not None, "a proxy that listens"
        )
        assert proxy.process.poll() is None, proxy.errors
        try:
            yield ServerBehindProxy(server, proxy, f"wss://localhost:{port}/", port, cert)
        finally:  # SIGTERM, since a killed nginx leaves its workers
            proxy.process.terminate()
            proxy.process.wait(PATIENCE)


def is_listening(port: int) -> bool:
    """Return whether something listens at the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def handshake(site_behind: ServerBehindProxy, headers: str, source: str) -> str:
    """Send a WebSocket handshake to the proxy from the address *source*; return the status line."""
    key = base64.b64encode(b"sixteen bytes ok").decode()
    request = (
        f"GET /?name=eve HTTP/1.1\r\nHost: localhost:{site_behind.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"{headers}\r\n"
    )
    context = ssl.create_default_context(cafile=str(site_behind.authority))
    with (
        socket.create_connection(("127.0.0.1", site_behind.port), PATIENCE, (source, 0)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(request.encode())
        return secure.recv(4096).decode().partition("\r\n")[0]


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_behind_a_proxy(kind: str, program: list[str], tmp_path: Path) -> None:
    """Behind the document's proxy, the room, the page, origins and client addresses work."""
    with running_behind(kind, program, tmp_path) as site_behind:
        command = [*program, "connect", site_behind.url, "--tls-ca", str(site_behind.authority)]
        done = shell('echo hi | "$@" --name bob', command)
        assert (done.code, done.output, done.errors) == (0, "bob: hi\n", "")
        curl = f"https://localhost:{site_behind.port}"
        fetch = (
            f"curl -s --noproxy '*' --cacert {site_behind.authority} -H 'Accept: text/html' {curl}/"
        )
        assert "<!doctype html>" in shell(fetch, []).output.lower()
        page = f"Origin: {curl}\r\n"
        assert handshake(site_behind, page, "127.0.0.2") == "HTTP/1.1 101 Switching Protocols"
        until(
            lambda: "eve joined lobby, from 127.0.0.2" in site_behind.server.errors, "its address"
        )
        forged = "Origin: https://evil.example\r\nX-Forwarded-For: 192.0.2.1\r\n"
        assert " 403 " in handshake(site_behind, forged, "127.0.0.2")
        assert site_behind.server.signal(signal.SIGTERM) == 0
        stream = fetch.replace("text/html", "text/event-stream' -H 'Last-Event-ID: e.7")
        assert shell(f"{stream} -w '%{{http_code}} %{{content_type}}'", []).output == (
            'retry: 1000\nid: e.7\ndata: {"type":"error","code":"stopping","text":"the server is'
            ' away"}\n\n200 text/event-stream'
        )
        assert shell(f"{fetch} -o {tmp_path / 'page'} -w '%{{http_code}}'", []).output == "502"


def test_a_proxy_is_reloaded(program: list[str], tmp_path: Path) -> None:
    """A client whose proxy reloads its configuration reconnects, and misses nothing."""
    with running_behind("nginx", program, tmp_path) as site_behind:
        connect = [
            *program,
            "connect",
            site_behind.url,
            "--tls-ca",
            str(site_behind.authority),
            "--listen",
        ]
        with running(*connect) as listener:
            until(lambda: " joined lobby" in site_behind.server.errors, "a listener")
            site_behind.proxy.process.send_signal(signal.SIGHUP)
            until(lambda: " left lobby" in site_behind.server.errors, "a connection that is ended")
            publish = f'seq 3 | "$@" connect --name bob --port {site_behind.server.port}'
            assert shell(publish, program).code == 0
            until(lambda: messages_of(listener) == ["bob: 1", "bob: 2", "bob: 3"], "the messages")
            assert listener.signal(signal.SIGINT) == 0


def messages_of(listener: Running) -> list[str]:
    """Return the messages of bob that a client has printed."""
    return [line for line in listener.lines if line.startswith("bob: ")]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """systemd-analyze accepts the units, and the command line they start is valid."""
    analyze = find("systemd-analyze")
    units = []
    for name in ("broadcast.socket", "broadcast.service"):
        unit = tmp_path / name
        unit.write_text(block("systemd", f"/etc/systemd/system/{name}"), encoding="utf-8")
        units.append(str(unit))
    done = subprocess.run(
        [analyze, "verify", *units], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    started = re.findall(r"^ExecStart=\S+ \S+ (start .*)$", DOCUMENT, re.MULTILINE)
    (options,) = (parse_options(shlex.split(each)) for each in started)
    assert options.command == "start"
    assert options.allow_host == frozenset(re.findall(r"server_name (\S+);", DOCUMENT))


def test_the_health_check_of_the_container(server: Running) -> None:
    """The image's health check passes for a running server only, and its entry point is valid."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    commands = dict(re.findall(r"^ *(CMD|ENTRYPOINT) (\[.*\])$", text, re.MULTILINE))
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", text, re.MULTILINE)
    for port, healthy in ((server.port, True), (str(free_port()), False)):
        done = subprocess.run(
            [sys.executable, *json.loads(check)[1:]],
            check=False,
            capture_output=True,
            timeout=PATIENCE,
            env={"BROADCAST_PORT": port},
        )
        assert (done.returncode == 0) is healthy
    assert json.loads(commands["ENTRYPOINT"])[-1].endswith("/broadcast-server.pyz")
    assert parse_options(json.loads(commands["CMD"])).command == "start"


def test_the_container_has_what_the_build_needs(tmp_path: Path) -> None:
    """The files that the Dockerfile copies exist, and are all that the build needs."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY ([^-].*)$", text, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, tmp_path / target, ignore=shutil.ignore_patterns("*.pyc"))
            else:
                shutil.copy(path, tmp_path / target)
    build = runpy.run_path(str(tmp_path / "build_zipapp.py"), run_name="build_zipapp")
    names = set(build["entries"](tmp_path, []))
    assert {"__main__.py", "LICENSE", "broadcast_server/page/index.html"} <= names
