"""Idle connections over TLS, which this process holds, and a certificate for the server."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .load import HERE, Failed

ROOM_SIZE = 50
"""Clients in each room, so that the announcements of the joins stay few."""

SETTLE_S = 0.1
"""Seconds that the server has to finish with the last client, as in load/load.c."""

REQUEST = (
    "GET /?room=r{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: bG9hZCBnZW5lcmF0b3IhIQ==\r\n\r\n"
)


def write_certificate(folder: Path) -> tuple[str, str]:
    """Write a self-signed certificate and its key into *folder*; return their paths."""
    sys.path.append(str(HERE.parent / "tests"))
    from certificates import write_pair

    cert, key = folder / "cert.pem", folder / "key.pem"
    write_pair(cert, key)
    return str(cert), str(key)


@contextmanager
def idle_tls(port: int, count: int) -> Iterator[None]:
    """Keep idle connections open over TLS. Raises Failed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    held: list[ssl.SSLSocket] = []
    with ExitStack() as stack:
        for index in range(count):
            try:
                plain = socket.create_connection(("127.0.0.1", port), timeout=30)
                one = stack.enter_context(context.wrap_socket(plain))
                one.sendall(REQUEST.format(index // ROOM_SIZE, port).encode())
                response = one.recv(4096)
            except OSError as error:
                raise Failed(f"TLS client {index}: {error}") from None
            if not response.startswith(b"HTTP/1.1 101"):
                raise Failed(f"TLS client {index} was rejected: {response[:60]!r}")
            held.append(one)
        time.sleep(SETTLE_S)
        yield
        if any(map(_is_cut, held)):
            raise Failed("the server cut a TLS client")


def _is_cut(client: ssl.SSLSocket) -> bool:
    """Return whether the server has ended the connection; drop what it has sent before."""
    client.setblocking(False)
    try:
        while client.recv(2**16):
            pass
    except ssl.SSLWantReadError:
        return False
    except OSError:
        pass
    return True
