"""An address of a server: what people type or paste, and what it comes to."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit, urlunsplit


def address(url: str) -> tuple[str, dict[str, str]]:
    """Split what people type or paste into the socket's URL and its query.

    A page's address will do, and so will HOST:PORT. Raises ValueError.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss"):
        raise ValueError(f"scheme is {scheme}, known are ws and wss")
    if not parts.hostname:
        raise ValueError("there is no host in it")
    if parts.port == 0:  # for what is no port at all this raises ValueError
        raise ValueError("port is 0, known are 1 to 65535")
    if parts.username is not None:
        raise ValueError("there is a user name in it, which would not be sent")
    if any(char.isspace() or 0xD800 <= ord(char) <= 0xDFFF for char in url):
        raise ValueError("there is a character in it that no address has")
    query = dict(parse_qsl(parts.query))
    return urlunsplit((scheme, parts.netloc, parts.path or "/", "", "")), query


def is_secret_on_the_way_to(url: str) -> bool:
    """Tell whether nobody between here and *url* can read what is sent."""
    from ipaddress import ip_address

    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "wss" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
