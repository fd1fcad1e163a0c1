"""A history: everything that one room's clients did, heard and were told, in one order.

The order of the records is the order in which our process came to know of them. It
saw a client say something before anyone could hear it, and heard things at the
earliest when they came; so what stands earlier cannot have been caused by what
stands later. Frozen values, which know no socket and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Kind(enum.Enum):
    """Kinds of client. The head of `checker` says what each is promised."""

    OURS = "our Client and Conversation, in this process"
    PIPE_JSON = "connect --listen --json, a process"
    PIPE = "connect --listen, a process"
    APART = "JSON with a cursor and a session, nothing of it ours"
    VISITOR = "JSON, new each time it comes"
    TEXT = "text"

    @property
    def numbered(self) -> bool:
        """Whether it sees numbers."""
        return self not in (Kind.PIPE, Kind.TEXT)

    @property
    def returns(self) -> bool:
        """Whether it comes back as the same: by its session, from its cursor, with its ids."""
        return self not in (Kind.VISITOR, Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a house promises of its log."""

    lasting: bool  # it outlives the processes
    reach: int | None = None  # so many messages it keeps, None for all

    @property
    def complete(self) -> bool:
        """Whether it reaches back to its beginning."""
        return self.reach is None


# -- what a client does --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """A client was given *text* to say; no other text of the run is the same."""

    at: float
    client: str
    text: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A client that we wrote ourselves sent *text*, perhaps again, on a connection."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Pinged:
    """A client asked for a pong."""

    at: float
    client: str
    connection: int
    id: str


# -- what a client is told -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection was made; one that sees no numbers is told no more than that."""

    at: float
    client: str
    connection: int


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A client was let in. *asked* is how much of the past it had asked for."""

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
class Heard:
    """A client that sees numbers heard a message."""

    at: float
    client: str
    connection: int
    seq: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A client that sees none heard a line, of whatever."""

    at: float
    client: str
    connection: int
    line: str


@dataclass(frozen=True, slots=True)
class Headed:
    """A client was told the number of the last message."""

    at: float
    client: str
    connection: int
    seq: int


@dataclass(frozen=True, slots=True)
class Ponged:
    """A client's ping was answered."""

    at: float
    client: str
    connection: int
    id: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A client took *text* as said: by its echo, or by the word that it was said before."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A client was told that *text* is not said."""

    at: float
    client: str
    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection that had been made ended."""

    at: float
    client: str
    connection: int
    code: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A client that nobody told to stay away does."""

    at: float
    client: str
    reason: str


# -- what happens to the house ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process of the house ended, and another took its place."""

    at: float


@dataclass(frozen=True, slots=True)
class Complained:
    """A process said what only its authors understand, or ended as it should not."""

    at: float
    text: str


# -- the end, after some time without faults -------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """Whether a client was connected at the end."""

    at: float
    client: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Archived:
    """What who reads the whole log at the end finds in it, as number, name and text."""

    at: float
    epoch: str
    entries: tuple[tuple[int, str, str], ...]


Record = (
    Said
    | Sent
    | Pinged
    | Opened
    | Welcomed
    | Heard
    | Line
    | Headed
    | Ponged
    | Acknowledged
    | Refused
    | Closed
    | GaveUp
    | Restarted
    | Complained
    | Ended
    | Archived
)


@dataclass(frozen=True, slots=True)
class History:
    """One room's part in a run."""

    terms: Terms
    clients: Mapping[str, Kind]  # by the names that they ask for
    records: tuple[Record, ...]
