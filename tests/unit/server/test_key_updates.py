"""A client with TLS that asks for new keys, and does not read the answers.

Python's `ssl` cannot ask, so the client is OpenSSL itself.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import signal
import socket
import ssl
import struct
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from certificates import write_pair
from deployments import INSTALLED
from programs import running, until

MANY = 150_000
"""More updates than the buffers of both systems have answers to."""

TIMEOUT = struct.pack("ll", 0, 300_000)
HANDSHAKE = (
    b"GET /?name=bob HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


class Client:
    """A member of a room that reads only when it is told to."""

    def __init__(self, port: int) -> None:
        name = ctypes.util.find_library("ssl") or ""
        if not name.endswith(".so.3") or sys.platform != "linux":
            pytest.skip("there is no OpenSSL 3 here")
        self._openssl = ctypes.CDLL(name)
        for maker in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self._openssl, maker).restype = ctypes.c_void_p
        method = ctypes.c_void_p(self._openssl.TLS_client_method())
        self._context = ctypes.c_void_p(self._openssl.SSL_CTX_new(method))
        self._session = ctypes.c_void_p(self._openssl.SSL_new(self._context))
        self.socket = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 4096)
        self.socket.connect(("127.0.0.1", port))
        self._openssl.SSL_set_fd(self._session, self.socket.fileno())
        assert self._openssl.SSL_connect(self._session) == 1
        assert self._openssl.SSL_write(self._session, HANDSHAKE, len(HANDSHAKE)) == len(HANDSHAKE)
        assert self.read().startswith(b"HTTP/1.1 101 ")
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, TIMEOUT)

    def request_keys(self) -> bool:
        """Ask for new keys, and return whether the server took the request."""
        assert self._openssl.SSL_key_update(self._session, 1) == 1  # SSL_KEY_UPDATE_REQUESTED
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what is left of a request, and return whether the server took it."""
        return bool(self._openssl.SSL_do_handshake(self._session) == 1)

    def drain_and_send(self) -> bool:
        """Read all answers, whatever they are, and return whether the server took the rest."""
        with suppress(BlockingIOError):
            while self.socket.recv(2**20, socket.MSG_DONTWAIT):
                pass
        return self.send_rest()

    def read(self) -> bytes:
        """Return what the server has sent."""
        buffer = ctypes.create_string_buffer(2**16)
        size = self._openssl.SSL_read(self._session, buffer, len(buffer))
        return buffer.raw[:size]

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close()
        self._openssl.SSL_free(self._session)
        self._openssl.SSL_CTX_free(self._context)


def test_a_flood_of_key_updates_is_not_read(tmp_path: Path) -> None:
    """The server reads no further while its answers are not taken, and then goes on."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(*files)
    options = "--tls-cert", str(files[0]), "--tls-key", str(files[1])
    with running(*INSTALLED, "start", "--port", "0", *options) as server:
        client = Client(int(server.port))
        taken = next((count for count in range(MANY) if not client.request_keys()), MANY)
        assert 0 < taken < MANY
        trusting = ssl.create_default_context(cafile=str(files[0]))
        url = f"https://127.0.0.1:{server.port}/?name=ci"
        with urlopen(url, b"hello", timeout=10, context=trusting) as answer:
            assert answer.status == 200
        until(client.drain_and_send, "the server reads on")
        client.close()
        assert server.signal(signal.SIGTERM) == 0
