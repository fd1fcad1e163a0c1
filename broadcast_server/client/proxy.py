"""The proxy: which HTTP proxy a client uses, and what is said to it. Pure.

A client asks the proxy for a tunnel (`CONNECT`, RFC 9110, section 9.3.6), for ws:// as well
(RFC 6455, section 4.1), so the proxy neither reads nor changes what goes through it with TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from broadcast_server import __version__

from .address import DEFAULT_PORTS, is_loopback, literal_address
from .http_status import describe_status

AUTO = "auto"
"""The value of the option that takes the proxy from the environment."""

DEFAULT_PROXY_PORT = 80

MAX_RESPONSE_HEAD_BYTES = 16 * 2**10


class Proxy(NamedTuple):
    """An HTTP proxy."""

    host: str
    port: int
    credentials: str = ""
    """The value of its Proxy-Authorization header; "" for none."""

    @property
    def address(self) -> str:
        """The host and port, as messages to the user show them: never with a password."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ProxyError(OSError):
    """A proxy gives no tunnel.

    Args:
        proxy: The proxy.
        reason: Why, in a few words.
        remedy: What helps, or "".
        final: Whether another attempt is known to fail in the same way.
        temporary: Whether the proxy says that another attempt may succeed.

    """

    def __init__(
        self,
        proxy: Proxy,
        reason: str,
        *,
        remedy: str = "check --proxy",
        final: bool = False,
        temporary: bool = False,
    ) -> None:
        super().__init__(f"proxy {proxy.address}: {reason}")
        self.reason = str(self)
        self.remedy = remedy
        self.final = final
        self.temporary = temporary


def parse_proxy(value: str) -> Proxy:
    """Read the URL of a proxy; without a scheme it is http.

    Raises ValueError with the reason, which has no part of the value: any may be of a password.
    """
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError:  # its text has the part that could not be read
        raise ValueError(
            "it is no address (write http://USER:PASSWORD@HOST:PORT,"
            " and # / ? @ : in a password as %23 %2F %3F %40 %3A)"
        ) from None
    if parts.scheme.startswith("socks"):
        raise ValueError(
            "SOCKS is not supported, as this program has no library for it (use an http:// proxy)"
        )
    if parts.scheme != "http":
        raise ValueError("scheme is not http (the tunnel has TLS of its own)")
    if not parts.hostname or any(char.isspace() for char in value):
        raise ValueError("it is no address (write http://HOST:PORT)")
    if port == 0:
        raise ValueError("port is 0, must be 1 to 65535")
    credentials = ""
    if parts.username is not None:
        from base64 import b64encode

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port or DEFAULT_PROXY_PORT, credentials)


def choose_proxy(
    option: str | None, url: str, environ: Mapping[str, str], source: str = "--proxy"
) -> Proxy | None:
    """Return the proxy for the WebSocket *url*; None if it is connected to directly.

    Args:
        option: A proxy's URL, `AUTO` for that of *environ*, or None for none. Loopback hosts
            are always connected to directly: for the proxy, they would be its own machine.
        url: The WebSocket's URL.
        environ: The environment: ``https_proxy`` for wss://, ``http_proxy`` for ws://, else
            ``all_proxy``; hosts in ``no_proxy`` have none. Each may be in capitals instead.
        source: What set *option*, for error messages.

    Raises:
        ValueError: With the reason, and where the value came from, but without the value, which
            may have a password.

    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    if not option or is_loopback(host):
        return None
    if option != AUTO:
        return _parse(option, source)
    if _is_exempt(host, port, _variable(environ, "no_proxy")[1]):
        return None
    for name in ("https_proxy" if parts.scheme == "wss" else "http_proxy", "all_proxy"):
        found, value = _variable(environ, name)
        if value:
            return _parse(value, found)
    return None


def _parse(value: str, source: str) -> Proxy:
    try:
        return parse_proxy(value)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the name and the value of a variable, in small letters or in capitals."""
    names = (name, name.upper())
    if "REQUEST_METHOD" in environ:  # in a CGI script, a client sets HTTP_PROXY by a header
        names = (name, name)
    for each in names:
        if environ.get(each, "").strip():
            return each, environ[each].strip()
    return name, ""


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether *no_proxy* lists *host*: itself, a domain above it, a network, or ``*``."""
    from ipaddress import ip_network

    address = literal_address(host)
    host = host.removesuffix(".")
    for item in no_proxy.lower().replace(",", " ").split():
        name, colon, wanted = item.rpartition(":")
        if not colon or not wanted.isdecimal() or (":" in name and not name.endswith("]")):
            name = item
        elif wanted != str(port):
            continue
        name = name.strip("[]").removeprefix("*.").strip(".")
        if item == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
        with suppress(ValueError):
            if address is not None and address in ip_network(name, strict=False):
                return True
    return False


def tunnel_request(proxy: Proxy, host: str, port: int) -> bytes:
    """Return the request for a tunnel to *host*, which has no zone, and *port*."""
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    lines = [
        f"CONNECT {name}:{port} HTTP/1.1",
        f"Host: {name}:{port}",
        f"User-Agent: broadcast-server/{__version__}",
    ]
    if proxy.credentials:
        lines.append(f"Proxy-Authorization: {proxy.credentials}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def check_tunnel_response(proxy: Proxy, head: bytes) -> None:
    """Check the head of a proxy's response, with its empty line. Raises ProxyError."""
    line = head.decode("latin-1").partition("\r\n")[0]
    protocol, _, rest = line.partition(" ")
    code = rest[:3]
    if not protocol.startswith("HTTP/1.") or not (code.isascii() and code.isdecimal()):
        raise ProxyError(proxy, "it is no HTTP proxy", final=True)
    status = int(code)
    if 200 <= status < 300:
        return
    if status == 407:
        why = "its user name or password is wrong" if proxy.credentials else "it wants a password"
        remedy = "--proxy http://USER:PASSWORD@HOST:PORT"
        raise ProxyError(proxy, why, remedy=remedy, final=True)
    temporary = describe_status(status, {}, b"").temporary
    reason = f"it opens no tunnel to the server, HTTP status {status}"
    raise ProxyError(proxy, reason, final=not temporary, temporary=temporary)
