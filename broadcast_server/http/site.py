"""The GET routes of the HTTP port, besides event streams: page, program, QR code, and status.

A server offers its own clients: the chat page for browsers and, if the server runs from the single
file, that file for download. This module is pure, except that it reads the page once. It does not
know how requests are parsed and responses are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from broadcast_server.protocol.join import parse_query
from broadcast_server.protocol.messages import Error

from .allowed_hosts import host_name
from .chat_page import ChatPage, chat_page, with_address
from .program import PROGRAM_NAME
from .prometheus import CONTENT_TYPE
from .qr import MAX_DATA_BYTES, qr_matrix, svg_image
from .responses import NO_CACHE, Response, plain_response, text_response

MAX_HEAD_BYTES = 8 * 2**10
"""The longest head of a request. In websockets this is also the limit of one line of it."""

CHUNK_BYTES = 64 * 2**10
"""The size of the chunks in which the program is sent."""

INSTRUCTIONS = f"""\
This is a broadcast server. To join, open this address in a browser, or connect any WebSocket
client to it: each text that you send is a message.

To join from a terminal, download ./{PROGRAM_NAME} from here, then run:
  python3 {PROGRAM_NAME} connect THIS-ADDRESS --name YOU

To publish a message:
  curl -d 'hello' 'THIS-ADDRESS/?name=YOU'

To receive the messages:
  curl -N THIS-ADDRESS/stream"""
"""What a client that does not accept HTML gets at the address of the server."""


class ServerStatus(Protocol):
    """What the routes need to know about the server."""

    @property
    def program(self) -> bytes | None:
        """The bytes of the single file that the server runs from, None for an installation."""

    @property
    def accepting(self) -> bool:
        """Whether clients can join. False while the server stops."""

    @property
    def share_url(self) -> str | None:
        """The page's address for other machines, None if there is none or it is unknown."""

    def metrics_text(self) -> str:
        """Return the metrics in Prometheus' text format."""


def is_socket_path(path: str) -> bool:
    """Return whether the WebSocket is at *path*: it ends with /, after any prefix of a proxy."""
    return path.endswith("/")


def respond(server: ServerStatus, method: str, target: str, headers: Mapping[str, str]) -> Response:
    """Return the response to a request that is neither a post nor an event stream.

    *target* is the path with the query. *headers* have lower-case names.
    """
    path, _, query = target.partition("?")
    if method not in ("GET", "HEAD"):
        allowed = ("GET", "HEAD", "POST") if is_socket_path(path) else ("GET", "HEAD")
        methods = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        text = f"method {method[:20]} is not allowed, use {methods}"
        return plain_response(405, text, ("Allow", ", ".join(allowed)))
    match path.rpartition("/")[2]:
        case "" if "text/html" in headers.get("accept", "").lower():
            share = server.share_url if _is_loopback(headers.get("host", "")) else None
            return _page_response(chat_page(), share)
        case "":
            return plain_response(200, INSTRUCTIONS, ("Vary", "Accept"))
        case "healthz":
            if server.accepting:
                return plain_response(200, "ok")
            return plain_response(503, "stopping")
        case "qr.svg":
            return _symbol_response(query)
        case "metrics":
            return text_response(200, CONTENT_TYPE, server.metrics_text())
        case name if name == PROGRAM_NAME:
            return _program_response(server.program)
        case _:
            return plain_response(404, f"nothing is at {path[:200]}")


def _is_loopback(host: str) -> bool:
    """Whether a Host header is a name of the client's own machine."""
    name = host_name(host) or ""
    return name in ("localhost", "::1") or name.startswith("127.")


def _page_response(page: ChatPage, share_url: str | None) -> Response:
    html = page.html if share_url is None else with_address(page, share_url)
    headers = (
        ("Content-Security-Policy", page.policy),
        ("Referrer-Policy", "no-referrer"),
        NO_CACHE,  # otherwise a cached page of an older version could connect to this server
        ("Vary", "Accept"),
    )
    return Response(200, "text/html; charset=utf-8", len(html), iter([html]), headers)


def _symbol_response(query: str) -> Response:
    """Draw the QR symbol of the text in *query*, which is the address that the page invites to.

    The page knows that address, and a server behind a proxy does not.
    """
    parameters = parse_query(query)
    if isinstance(parameters, Error):
        return plain_response(400, parameters.text)
    data = parameters.get("text", "").encode()
    if not data:
        return plain_response(400, "text is missing, add ?text=ADDRESS")
    # One mask: the choice among all would let a client spend 20 times as much of the server.
    matrix = qr_matrix(data, masks=(0,))
    if matrix is None:
        text = f"text is {len(data)} bytes, limit of a QR code is {MAX_DATA_BYTES}"
        return plain_response(414, text)
    image = svg_image(matrix)
    return Response(200, "image/svg+xml", len(image), iter([image]))


def _program_response(data: bytes | None) -> Response:
    if data is None:
        text = "this server does not run from the single file; build it: python3 build_zipapp.py"
        return plain_response(404, text)
    disposition = "Content-Disposition", f'attachment; filename="{PROGRAM_NAME}"'
    chunks = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
    return Response(200, "application/zip", len(data), chunks, (disposition,))
