"""The transcript: all messages that a server still has of a room, read over HTTP. It blocks."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import cast
from urllib.parse import quote, urlencode, urlsplit

from broadcast_server import __version__
from broadcast_server.protocol.codec import decode_event, encode_json, encode_text
from broadcast_server.protocol.messages import Error, Event, Message, MessageHidden, Welcome

from .http_connection import describe_http_failure, host_header, http_connection
from .http_status import describe_status
from .target import Target

ALL = 10**9
"""More messages than any log has."""

STEP_TIMEOUT_S = 30.0
"""Seconds to wait for the server in each step of the request, and for each part of the response."""

MAX_LINE_BYTES = 2**20
"""The longest line of a response: no event is longer."""

PATH_CHARACTERS = "/%:@!$&'()*+,;=~"
"""Characters that a path may have as they are (RFC 3986, section 3.3)."""

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
"""Ends of the names of files that a transcript is written to as lines of JSON."""


class TranscriptError(Exception):
    """The transcript cannot be read, or not to its end. The text says why."""


def read_transcript(target: Target, room: str | None, count: int = ALL) -> Iterator[Message]:
    """Yield the last *count* messages of *room*, the oldest first. Raises TranscriptError.

    Without a *room* it is that of the address, or the default. Messages that a moderator has hidden
    are left out.
    """
    asked = {"history": str(count), "poll": "1"} | ({} if room is None else {"room": room})
    others = urlencode(target.query)  # last: of a repeated parameter the first counts
    query = "&".join(filter(None, (urlencode(asked), others)))
    path = quote(urlsplit(target.url).path, safe=PATH_CHARACTERS)
    headers = {"Host": host_header(target), "User-Agent": f"broadcast-server/{__version__}"}
    if target.token is not None:
        headers["Authorization"] = f"Bearer {target.token}"
    connection, is_connected = http_connection(target, STEP_TIMEOUT_S, set()), False
    try:
        connection.connect()
        is_connected = True
        connection.request("GET", f"{path}stream?{query}", headers=headers)
        with connection.getresponse() as response:
            yield from _messages(response, target.url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        failure = describe_http_failure(error, target, is_connected=is_connected)
        raise TranscriptError(failure.message(target.description)) from None
    finally:
        connection.close()


def _messages(response: http.client.HTTPResponse, url: str) -> Iterator[Message]:
    if response.status != 200:
        lower = {name.lower(): value for name, value in response.getheaders()}
        failure = describe_status(response.status, lower, response.read(2**16), url)
        raise TranscriptError(failure.reason)
    seq, end = 0, None
    while line := response.readline(MAX_LINE_BYTES):
        match _event(line):
            case Welcome() as welcome:
                end = welcome.seq
            case Message() as message:
                seq = message.seq
                yield message
            case MessageHidden(seq=number):
                seq = max(seq, number)
            case Error(text=text):
                raise TranscriptError(text)
    if end is None or seq < end:
        raise TranscriptError("the response ended early")


def _event(line: bytes) -> Event | None:
    try:
        return decode_event(line.decode())
    except ValueError:
        raise TranscriptError("no broadcast server is there: it sent an invalid event") from None


def transcript_lines(message: Message, *, json: bool) -> list[str]:
    """Return *message* as lines of a transcript: JSON, or text with the time in front of each."""
    if json:
        return [encode_json(message)]
    text = cast(str, encode_text(message))
    return [f"{message.at} {line}" for line in text.split("\n")]
