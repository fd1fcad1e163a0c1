"""Publish results: what the server's HTTP response to a published message means for its sender."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from broadcast_server.protocol.bounds import MAX_SEQ
from broadcast_server.protocol.names import validate_room

from .http_status import describe_foreign_success, describe_status, same_server_redirect

SEE_OTHER_STATUS = 303
"""The status of a server that has taken a request, and names a page to read (RFC 9110, 15.4.4)."""


class Accepted(NamedTuple):
    """The message was published."""

    name: str
    """The name under which it was published, with the suffix that the room may have added."""
    room: str
    receivers: int
    """Number of connections that the message went to."""
    line: str
    """The response body as it was received."""


class Rejected(NamedTuple):
    """A retry would have the same result."""

    why: str
    sure: bool = True
    """Whether it is certain that this attempt did not publish the message."""
    redirect: str = ""
    """The URL on the same server that would take the message, or ""."""


class Retry(NamedTuple):
    """The message may be published by a retry."""

    why: str
    wait: float = 0.0
    """Seconds to wait at least before the retry."""
    sure: bool = True
    """Whether it is certain that this attempt did not publish the message."""
    hint: str = ""
    """A question to ask if there is no retry, or ""."""


PublishResult = Accepted | Rejected | Retry


def parse_publish_response(
    status: int, headers: Mapping[str, str], body: bytes, url: str = ""
) -> PublishResult:
    """Interpret the HTTP response to a message for *url*. The names of *headers* are lower case."""
    if 200 <= status < 300:
        # A gateway may have passed the message on, and answered in its own words.
        accepted = _parse_accepted(body) if status == 200 else None
        return accepted or Rejected(describe_foreign_success(status), sure=False)
    failure = describe_status(status, headers, body, url)
    if not failure.temporary:
        redirect = None
        if status != SEE_OTHER_STATUS:
            redirect = same_server_redirect(status, headers.get("location"), url)
        return Rejected(failure.reason, redirect=redirect or "")
    # Only 409 and 429 say that the message was not published. A 502 of a proxy does not, nor does
    # a server that is stopping or whose database does not answer.
    return Retry(failure.reason, failure.wait, sure=status in (409, 429))


def _parse_accepted(body: bytes) -> Accepted | None:
    try:
        line = body.decode().strip()
        value = json.loads(line)
        match value:
            case {"seq": int(seq), "name": str(name), "room": str(room), "count": int(count)}:
                numbers = all(type(each) is int and 0 <= each <= MAX_SEQ for each in (seq, count))
                # A line break outside the strings would be valid JSON, and no line.
                if numbers and name and not {"\n", "\r"} & {*line}:
                    return Accepted(name, validate_room(room), count, line)
    except (ValueError, RecursionError):
        pass
    return None
