"""A history: everything that the clients of one room did and received, in one order.

The order of the records is the order in which the test process learned of the events. It records
a message as published before any client can receive it, and as received at the earliest when it
arrives. So an earlier record cannot have been caused by a later one. Records are frozen values;
*at* is always in seconds from the beginning of the run.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Kind(enum.Enum):
    """Kinds of client. The docstring of `checker` says what each is promised."""

    OURS = "our ReconnectingClient, in this process"
    PIPE_JSON = "connect --listen --json, a process"
    PIPE = "connect --listen, a process"
    INDEPENDENT = "JSON with a cursor and a session, without our client's code"
    STATELESS = "JSON, a new client on each connection"
    RESUMER = "JSON, resumes all the time, from anywhere and in every way"
    TEXT = "text"

    @property
    def numbered(self) -> bool:
        """Whether the client sees the numbers of messages."""
        return self not in (Kind.PIPE, Kind.TEXT)

    @property
    def publishes(self) -> bool:
        """Whether the client publishes messages."""
        return self is not Kind.RESUMER

    @property
    def resumes(self) -> bool:
        """Whether the client resumes when it reconnects: with its session, cursor and ids."""
        return self not in (Kind.STATELESS, Kind.TEXT, Kind.RESUMER)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment promises of its log."""

    durable: bool  # the log outlives the server processes
    kept_messages: int | None = None  # how many messages the log keeps, None for all
    floods: bool = False  # some clients publish so much that others may be behind for seconds

    @property
    def complete(self) -> bool:
        """Whether the log keeps all messages."""
        return self.kept_messages is None


# -- what a client does --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A client was given *text* to publish. Each text is unique in a run."""

    at: float
    client: str
    text: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A client of `SocketClient` sent *text* on a connection, perhaps not for the first time."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class PingSent:
    """A client sent a ping."""

    at: float
    client: str
    connection: int
    id: str


# -- what a client receives ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection was opened. For a text client this is all it learns about its join."""

    at: float
    client: str
    connection: int


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A client was welcomed. *asked* is how many messages of the history it had asked for."""

    at: float
    client: str
    connection: int
    name: str
    epoch: str
    seq: int
    recovered: bool
    missed: int | None
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A client that sees numbers received a message."""

    at: float
    client: str
    connection: int
    seq: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A client that sees no numbers received a line of any kind."""

    at: float
    client: str
    connection: int
    line: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A resumer asks for what follows number *seq* of *epoch*, or for *asked* older messages.

    *epoch* is empty in the second case.
    """

    at: float
    client: str
    connection: int
    epoch: str
    seq: int
    asked: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """A resumer learned that the replay of a connection is over."""

    at: float
    client: str
    connection: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """A client received a list of members, or that one joined, left or was renamed.

    *kind* is the type of the event, *names* are those that it has, and *count* is the number of
    members that it tells, None if it tells none.
    """

    at: float
    client: str
    connection: int
    kind: str
    names: tuple[str, ...]
    count: int | None


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """A client received a heartbeat, with the number of the last message."""

    at: float
    client: str
    connection: int
    seq: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A client received the pong for its ping."""

    at: float
    client: str
    connection: int
    id: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A client learned that *text* is published: by its echo, or by a `duplicate` error."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A client was told that *text* is not published."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection that had been opened ended."""

    at: float
    client: str
    connection: int
    code: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A client stopped reconnecting, although nothing had told it to."""

    at: float
    client: str
    reason: str


# -- what happens to the deployment ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process of the deployment ended, and was started again."""

    at: float


@dataclass(frozen=True, slots=True)
class ProcessFault:
    """A process printed a traceback or warning, or ended with a wrong exit code."""

    at: float
    text: str


# -- the end of a run, after some time without faults ----------------------------


@dataclass(frozen=True, slots=True)
class FinalState:
    """Whether a client was connected at the end."""

    at: float
    client: str
    connected: bool


@dataclass(frozen=True, slots=True)
class LogRead:
    """The whole log, as read at the end: number, name and text of each message."""

    at: float
    epoch: str
    entries: tuple[tuple[int, str, str], ...]


Record = (
    Published
    | Sent
    | PingSent
    | Opened
    | Welcomed
    | Received
    | Line
    | Resumed
    | Replayed
    | Noticed
    | HeartbeatReceived
    | PongReceived
    | Acknowledged
    | Rejected
    | Closed
    | GaveUp
    | Restarted
    | ProcessFault
    | FinalState
    | LogRead
)


@dataclass(frozen=True, slots=True)
class History:
    """The records of one room in a run."""

    terms: Terms
    clients: Mapping[str, Kind]  # by the name that each client asks for
    records: tuple[Record, ...]
