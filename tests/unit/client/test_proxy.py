"""The proxy: which one a client uses, and the tunnel that it asks for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from socket import inet_aton

import pytest
from certificates import write_pair
from client_harness import RecordingSink, play
from hypothesis import example, given
from hypothesis import strategies as st

from broadcast_server import connect
from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.target_option import target_from_options
from broadcast_server.client.address import literal_address, parse_address
from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.proxy import (
    Proxy,
    ProxyError,
    check_tunnel_response,
    choose_proxy,
    parse_proxy,
    tunnel_request,
)
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.session import ClientSession
from broadcast_server.client.target import Target
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.tls import ReloadableCertificate, load_authorities

PROXY = Proxy("p.example", 3128)


# -- which one --


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("http://p.example:3128", PROXY),
        ("http://p.example:3128/", PROXY),
        ("p.example:3128", PROXY),
        ("http://p.example", Proxy("p.example", 80)),
        ("http://[::1]:3128", Proxy("::1", 3128)),
        ("http://me:s%40fe@p.example:3128", Proxy("p.example", 3128, "Basic bWU6c0BmZQ==")),
    ],
)
def test_addresses_of_proxies(value: str, proxy: Proxy) -> None:
    """The scheme may be missing; a user name and password become a header."""
    assert parse_proxy(value) == proxy
    assert "@" not in proxy.address


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5://p:1080", "--proxy: SOCKS is not supported, as this program has no library for"),
        ("socks5h://p:1080", "--proxy: SOCKS is not supported"),
        ("https://p:443", "--proxy: scheme is not http"),
        ("http://", "--proxy: it is no address"),
        ("http://p:0", "--proxy: port is 0"),
        ("http://p:x", "--proxy: it is no address"),
        ("http://secret pw@p", "--proxy: it is no address"),
        ("http://u:secret/pw@p:1", "--proxy: it is no address .* as %23 %2F"),
        ("http://u:secret#pw@p:1", "--proxy: it is no address"),
        ("http://u:se[cret@p:1", "--proxy: it is no address"),
        ("u:secret", "--proxy: it is no address"),
        ("secret://p:1", "--proxy: scheme is not http"),
    ],
)
def test_invalid_proxies(value: str, reason: str) -> None:
    """A proxy that cannot be used is an error without the value, which may have a password."""
    with pytest.raises(ValueError, match="^" + reason) as raised:
        choose_proxy(value, "ws://h/", {})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "variables", "host"),
    [
        ("ws://h/", {}, None),
        ("ws://h/", {"http_proxy": "http://p:1"}, "p"),
        ("ws://h/", {"HTTP_PROXY": "http://p:1"}, "p"),
        ("ws://h/", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ("ws://h/", {"http_proxy": "http://p:1", "HTTP_PROXY": "http://q:1"}, "p"),
        ("ws://h/", {"http_proxy": "", "ALL_PROXY": "http://q:1"}, "q"),
        ("ws://h/", {"https_proxy": "http://p:1"}, None),
        ("wss://h/", {"HTTPS_PROXY": "http://p:1", "http_proxy": "http://q:1"}, "p"),
        ("wss://h/", {"http_proxy": "http://q:1"}, None),
        ("wss://h/", {"all_proxy": "p:1"}, "p"),
        ("ws://localhost:1/", {"all_proxy": "p:1"}, None),
        ("ws://a.localhost/", {"all_proxy": "p:1"}, None),
        ("ws://127.9.9.9/", {"all_proxy": "p:1"}, None),
        ("ws://[::1]/", {"all_proxy": "p:1"}, None),
        ("ws://[::ffff:127.0.0.1]/", {"all_proxy": "p:1"}, None),
        ("ws://h/", {"all_proxy": "p:1", "no_proxy": "*"}, None),
        ("ws://h/", {"all_proxy": "p:1", "NO_PROXY": "a, h"}, None),
        ("ws://a.h.example/", {"all_proxy": "p:1", "no_proxy": ".h.example"}, None),
        ("ws://h.example/", {"all_proxy": "p:1", "no_proxy": ".h.example"}, None),
        ("ws://a.h.example./", {"all_proxy": "p:1", "no_proxy": "*.H.example"}, None),
        ("ws://ah.example/", {"all_proxy": "p:1", "no_proxy": "h.example"}, "p"),
        ("ws://h:81/", {"all_proxy": "p:1", "no_proxy": "h:80"}, "p"),
        ("ws://h/", {"all_proxy": "p:1", "no_proxy": "h:80"}, None),
        ("ws://10.1.2.3/", {"all_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("ws://11.1.2.3/", {"all_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, "p"),
        ("ws://10.1/", {"all_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("ws://[::ffff:10.1.2.3]/", {"all_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("ws://[fd00::5]/", {"all_proxy": "p:1", "no_proxy": "fd00::/8"}, None),
        ("ws://[fd00::5]/", {"all_proxy": "p:1", "no_proxy": "[FD00:0::5]:80"}, None),
    ],
)
def test_the_proxy_of_the_environment(
    url: str, variables: dict[str, str], host: str | None
) -> None:
    """With `auto`, the variables that other programs use name the proxy, and exempt hosts."""
    proxy = choose_proxy("auto", url, variables)
    assert (proxy.host if proxy else None) == host


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "a.b.localhost", "localhost.localdomain",
        "ip6-localhost", "ip6-loopback", "localhost6", "127.0.0.1", "127.9.9.9", "127.1", "127.0.1",
        "127.65535", "127.0.0.01", "0177.1", "0x7f.1", "0X7F.0.0.0x1", "2130706433", "0x7f000001",
        "017700000001", "0.0.0.0", "0", "0x0", "0.0", "[::]", "[::1]", "[0:0::0:1]", "[::1%25lo]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0.0.0.0]", "１２７.1", "127。0。0。1",
        "ⓛocalhost",
    ],
)  # fmt: skip
def test_no_proxy_for_this_machine(host: str) -> None:
    """However this machine is spelled, the connection to it is direct."""
    url, _ = parse_address(f"ws://{host}:8765/")
    assert choose_proxy("p:1", url, {}) is None
    assert choose_proxy("auto", url, {"all_proxy": "p:1"}) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost.example", "notlocalhost", "ip6-localhost.example", "128.1", "1.127", "0.0.0.1",
        "2130706432.1", "0x80000001", "127.0.0.256", "127.16777216", "4294967296", "127.0.0.0.1",
        "127.0.0.1.example", "126.256.0.1", "0x", "08", "127.-1", "127.1_0", "[::2]",
        "[::127.0.0.1]", "[fe80::1%25lo]", "[::ffff:10.0.0.1]", "10.1", "ä.example", "９.9",
    ],
)  # fmt: skip
def test_a_proxy_for_other_hosts(host: str) -> None:
    """What only resembles a name or an address of this machine is reached through the proxy."""
    url, _ = parse_address(f"ws://{host}:8765/")
    assert choose_proxy("p:1", url, {}) == Proxy("p", 1)


@pytest.mark.parametrize(
    ("host", "exposed"),
    [("127.1", False), ("[::ffff:127.0.0.1]", False), ("localhost", False), ("128.1", True),
     ("a.localhost", True), ("ip6-localhost", True)],
)  # fmt: skip
def test_a_token_for_this_machine(host: str, exposed: bool) -> None:
    """A token needs no TLS to an address of this machine; other names may be looked up."""
    assert Target(f"ws://{host}/", {}, "token", None, None).exposes_token is exposed


@given(st.lists(st.sampled_from(["0", "1", "7", "8", "127", "255", "256", "0x", "f", "."])))
@example(["2130706433"])
@example(["0x7f", ".", "16777215"])
@example(["0377", ".", "1"])
def test_addresses_are_read_as_the_system_reads_them(pieces: list[str]) -> None:
    """Numbers with fewer parts, in hexadecimal and octal, are what `inet_aton` makes of them."""
    host = "".join(pieces)
    try:
        expected = IPv4Address(inet_aton(host))
    except OSError:
        expected = None
    assert literal_address(host) == expected


def target_of(monkeypatch: pytest.MonkeyPatch, *words: str, **variables: str) -> Target:
    """Return the target of the options *words* of `send`."""
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return target_from_options(parse_options(["send", "hi", *words]))


def test_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default there is no proxy, and never for loopback addresses."""
    with monkeypatch.context() as patch:
        assert target_of(patch, "ws://h/", ALL_PROXY="http://p:1").proxy is None
        assert target_of(patch, "ws://h/", "--proxy", "p:1").proxy == Proxy("p", 1)
        assert target_of(patch, "--proxy", "p:1").proxy is None
        assert target_of(patch, "ws://h/", BROADCAST_PROXY="p:1").proxy == Proxy("p", 1)
        variables = {"BROADCAST_PROXY": "auto", "ALL_PROXY": "socks5://p:1"}
        with pytest.raises(ValueError, match=r"^ALL_PROXY: SOCKS is not supported"):
            target_of(patch, "ws://h/", **variables)
        with pytest.raises(ValueError, match=r"^BROADCAST_PROXY: port is 0"):
            target_of(patch, "ws://h/", BROADCAST_PROXY="p:0")
        assert target_of(patch, "--unix", "x", BROADCAST_PROXY="p:1").proxy is None
        with pytest.raises(ValueError, match=r"^--unix cannot be combined with --proxy"):
            target_of(patch, "--unix", "x", "--proxy", "p:1")


# -- the tunnel --


def test_the_request() -> None:
    """The request names the server, with its port, and the password for the proxy."""
    proxy = Proxy("p", 1, "Basic x")
    lines = tunnel_request(proxy, "::1", 80).decode().split("\r\n")
    assert lines[:2] == ["CONNECT [::1]:80 HTTP/1.1", "Host: [::1]:80"]
    assert lines[3:] == ["Proxy-Authorization: Basic x", "", ""]
    assert b"Proxy-Authorization" not in tunnel_request(PROXY, "h", 443)
    assert tunnel_request(PROXY, "ä.example", 1).startswith(b"CONNECT xn--4ca.example:1 ")


@pytest.mark.parametrize(
    ("head", "reason", "final", "temporary"),
    [
        (b"HTTP/1.1 407 Auth\r\n\r\n", "proxy p.example:3128: it wants a password", True, False),
        (b"HTTP/1.1 403 No\r\n\r\n", "no tunnel to the server, HTTP status 403", True, False),
        (b"HTTP/1.0 502 Bad\r\n\r\n", "no tunnel to the server, HTTP status 502", False, True),
        (b"SSH-2.0-x\r\n\r\n", "proxy p.example:3128: it is no HTTP proxy", True, False),
        (b"", "it is no HTTP proxy", True, False),
    ],
)  # fmt: skip
def test_a_proxy_that_opens_no_tunnel(
    head: bytes, reason: str, final: bool, temporary: bool
) -> None:
    """The error names the proxy, and tells whether to try again."""
    with pytest.raises(ProxyError, match=reason) as raised:
        check_tunnel_response(PROXY, head)
    assert (raised.value.final, raised.value.temporary) == (final, temporary)


@asynccontextmanager
async def tunnels(port: int, response: bytes = b"200 OK") -> AsyncIterator[tuple[Proxy, list[str]]]:
    """A proxy that connects each tunnel to *port*; the targets that it was asked for."""
    asked: list[str] = []
    tasks = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        writer.write(b"HTTP/1.1 %s\r\nVia: x\r\n\r\n" % response)
        if response != b"200 OK":
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, inner_writer), (inner_reader, writer)):
            tasks.add(asyncio.ensure_future(copy(*pair)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Proxy("127.0.0.1", server.sockets[0].getsockname()[1]), asked
    await asyncio.wait(tasks or {asyncio.ensure_future(asyncio.sleep(0))})


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_all_clients_use_the_proxy(scheme: str, tmp_path: Path) -> None:
    """Commands and library reach a server through a tunnel; its name is the proxy's task."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    write_pair(cert, key, "chat.example")
    certificate = ReloadableCertificate(cert, key) if scheme == "wss" else None
    authorities = load_authorities(str(cert)) if scheme == "wss" else None

    async def scenario() -> None:
        limits, hosts = AdmissionLimits(rate=0), frozenset(["chat.example"])
        server = Server(
            Settings(port=0, grace=1, limits=limits, hosts=hosts), certificate=certificate
        )
        await server.listen()
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        async with tunnels(port) as (proxy, asked):
            url = f"{scheme}://chat.example/"
            client = ReconnectingClient(
                url, {}, ClientSession(None, None), authorities=authorities, proxy=proxy
            )
            running = asyncio.ensure_future(client.run(sink := RecordingSink()))
            client.send("hi")
            await sink.until(lambda: sink.texts)
            publisher = HTTPPublisher(Target(url, {}, None, None, authorities, proxy), None, None)
            loop = asyncio.get_running_loop()
            assert (await loop.run_in_executor(None, publisher.publish, "there")).receivers == 1
            client.leave()
            await running
            through, ca = f"http://127.0.0.1:{proxy.port}", cert if scheme == "wss" else None
            async with connect(url, proxy=through, tls_ca=ca) as room:
                assert (await room.send("library")).seq == 3
            assert asked == ["chat.example:443" if scheme == "wss" else "chat.example:80"] * 3
            await server.stop()

    play(scenario)


def test_a_proxy_that_rejects_is_named_by_all_clients() -> None:
    """The error names the proxy and the remedy, and that the message was not sent."""

    async def scenario() -> None:
        async with tunnels(1, b"407 Authenticate") as (proxy, _):
            url = "ws://chat.example/"
            client = ReconnectingClient(url, {}, ClientSession(None, None), proxy=proxy)
            reason = f"(proxy {proxy.address}: it wants a password)"
            remedy = "(--proxy http://USER:PASSWORD@HOST:PORT)"
            text = f"Could not connect to server at ws://chat.example:80/ {reason} {remedy}"
            with pytest.raises(ClientError) as raised:
                await client.run(RecordingSink())
            assert str(raised.value) == text
            publisher = HTTPPublisher(Target(url, {}, None, None, None, proxy), None, None)
            loop = asyncio.get_running_loop()
            with pytest.raises(PublishFailed) as failed:
                await loop.run_in_executor(None, publisher.publish, "there")
            assert str(failed.value) == f"not sent: {text}"

    play(scenario)
