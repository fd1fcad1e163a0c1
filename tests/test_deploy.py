"""The deployment: what its document says to configure, as real proxies and systemd take it."""

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
from programs import PATIENCE, Running, running, shell, until

from broadcast_server.options import parse

ROOT = Path(__file__).resolve().parent.parent
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
"""What is around the document's configuration, so that it runs for one test."""

CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


class Behind(NamedTuple):
    """A server behind a proxy."""

    server: Running
    proxy: Running
    url: str
    port: int
    authority: Path


def block(language: str, path: str = "") -> str:
    """Return a block of the document, by its language and, if there are several, its path."""
    pattern = rf"^```{language}\n((?:# {re.escape(path)}\n)?.*?)^```$"
    found: list[str] = re.findall(pattern, DOCUMENT, re.MULTILINE | re.DOTALL)
    return next(each for each in found if path in each.partition("\n")[0])


def find(program: str) -> str:
    """Find a program of the system, or skip."""
    path = shutil.which(program, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"there is no {program} here")
    return path


def free_port() -> int:
    """Return a port that nobody listens on, for a program that cannot choose one."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@contextmanager
def behind(kind: str, program: list[str], folder: Path) -> Iterator[Behind]:
    """Start a server, and a proxy in front of it as the document has it."""
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
        until(lambda: answers(port) or proxy.process.poll() is not None, "a proxy that listens")
        assert proxy.process.poll() is None, proxy.errors
        try:
            yield Behind(server, proxy, f"wss://localhost:{port}/", port, cert)
        finally:  # not killed, or nginx's workers would stay
            proxy.process.terminate()
            proxy.process.wait(PATIENCE)


def answers(port: int) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def handshake(place: Behind, headers: str, source: str) -> str:
    """Ask the proxy for the socket, as a browser at the address *source*; return the answer."""
    key = base64.b64encode(b"sixteen bytes ok").decode()
    request = (
        f"GET /?name=eve HTTP/1.1\r\nHost: localhost:{place.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"{headers}\r\n"
    )
    context = ssl.create_default_context(cafile=str(place.authority))
    with (
        socket.create_connection(("127.0.0.1", place.port), PATIENCE, (source, 0)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(request.encode())
        return secure.recv(4096).decode().partition("\r\n")[0]


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_behind_a_proxy(kind: str, program: list[str], tmp_path: Path) -> None:
    """Everything works behind the document's proxy: the room, the page, origins, addresses."""
    with behind(kind, program, tmp_path) as place:
        command = [*program, "connect", place.url, "--tls-ca", str(place.authority)]
        done = shell('echo hi | "$@" --name bob', command)
        assert (done.code, done.output, done.errors) == (0, "bob: hi\n", "")
        curl = f"https://localhost:{place.port}"
        fetch = f"curl -s --noproxy '*' --cacert {place.authority} -H 'Accept: text/html' {curl}/"
        assert "<!doctype html>" in shell(fetch, []).output.lower()
        page = f"Origin: {curl}\r\n"
        assert handshake(place, page, "127.0.0.2") == "HTTP/1.1 101 Switching Protocols"
        until(lambda: "eve joined lobby, from 127.0.0.2" in place.server.errors, "its address")
        forged = "Origin: https://evil.example\r\nX-Forwarded-For: 192.0.2.1\r\n"
        assert " 403 " in handshake(place, forged, "127.0.0.2")


def test_a_proxy_that_is_reloaded(program: list[str], tmp_path: Path) -> None:
    """A client whose proxy reloads its configuration comes back, and misses nothing."""
    with behind("nginx", program, tmp_path) as place:
        connect = [*program, "connect", place.url, "--tls-ca", str(place.authority), "--listen"]
        with running(*connect) as listener:
            until(lambda: " joined lobby" in place.server.errors, "a listener")
            place.proxy.process.send_signal(signal.SIGHUP)
            until(lambda: " left lobby" in place.server.errors, "a connection that is ended")
            say = f'seq 3 | "$@" connect --name bob --port {place.server.port}'
            assert shell(say, program).code == 0
            until(lambda: said(listener) == ["bob: 1", "bob: 2", "bob: 3"], "what was said")
            assert listener.signal(signal.SIGINT) == 0


def said(listener: Running) -> list[str]:
    """Return what a client has heard, without those who came and left."""
    return [line for line in listener.lines if line.startswith("bob: ")]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """The units are such as systemd knows, and what they start can be typed."""
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
    assert [parse(shlex.split(each)).command for each in started] == ["start"]


def test_the_container_is_checked(server: Running) -> None:
    """What the image has Docker run: a check that tells who serves from who does not, and us."""
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
    assert parse(json.loads(commands["CMD"])).command == "start"


def test_the_container_has_what_the_build_needs(tmp_path: Path) -> None:
    """What the image is built from is there, and is all that the build of the file asks for."""
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
