"""The server API: what connections need of the server, and the server of connections."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from broadcast_server.http.site import ServerStatus
from broadcast_server.rooms.receiver import Receiver, StreamReceiver

if TYPE_CHECKING:
    from broadcast_server.admission.admission import ClientPlace
    from broadcast_server.admission.allowances import Allowance
    from broadcast_server.admission.token import Credentials
    from broadcast_server.admission.trusted_proxies import TrustedProxies
    from broadcast_server.http.allowed_hosts import AllowedHosts
    from broadcast_server.http.stream import StreamRequest
    from broadcast_server.http.upload_budget import UploadBudget
    from broadcast_server.protocol.join import JoinRequest
    from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
    from broadcast_server.protocol.rejection import Rejection
    from broadcast_server.protocol.session_key import SessionKey


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection waits for what, in seconds."""

    handshake: float = 10.0
    """Until the head of the first request is complete."""
    ping: float = 20.0
    """Between two pings. A client that sent nothing in between is closed as stale."""
    close: float = 10.0
    """Until a closing handshake is over."""


class Connection(Protocol):
    """What the server can do with any of its connections."""

    @property
    def allowance(self) -> Allowance | None:
        """What the client may send, None if it has no limit or is in no room.

        The server ends it with the connection.
        """

    @property
    def close_code(self) -> int | None:
        """The close code that a participant's connection ended with, None for any other."""

    def shut_down(self) -> None:
        """End the connection cleanly, because the server stops."""

    def abort(self) -> None:
        """Cut the connection."""


class ParticipantConnection(Connection, Receiver, Protocol):
    """A connection that can be in a room, as a member or a subscriber."""

    @property
    def client(self) -> str | None:
        """The client's address as far as it is known, None for a Unix socket."""

    @property
    def address(self) -> str:
        """The client's address and port, for the log."""

    @property
    def file_number(self) -> int:
        """The number of its open file, -1 if it is closed."""


class SubscriberConnection(ParticipantConnection, StreamReceiver, Protocol):
    """A connection that can be in a room as a subscriber."""


class Applicant(Protocol):
    """A connection that asks to be admitted: to join, to subscribe, or to publish."""

    allowance: Allowance | None
    """What the client may send. The server sets it when the client asks to join."""

    @property
    def client(self) -> str | None:
        """The client's address as far as it is known, None for a Unix socket."""

    def wait(self, delay: float, then: Callable[[], None]) -> None:
        """Call *then* after *delay* seconds, unless the connection is lost before."""

    def reject(self, rejection: Rejection) -> None:
        """Tell the client why it is not admitted, and end the connection."""


class Upload(Hashable, Protocol):
    """A connection that receives the body of a request."""

    def cut(self) -> None:
        """Give up the upload for the sake of newer ones."""


class ServerAPI(ServerStatus, Protocol):
    """What connections need of the server that they belong to."""

    timeouts: Timeouts
    origins: frozenset[str]
    hosts: AllowedHosts
    trusted_proxies: TrustedProxies
    max_message_bytes: int
    session_key: SessionKey
    uploads: UploadBudget[Upload]

    def connection_opened(self, connection: Connection) -> None:
        """Remember *connection* until `connection_closed`."""

    def connection_closed(self, connection: Connection) -> None:
        """Forget *connection*."""

    def admit(
        self,
        applicant: Applicant,
        join: JoinRequest,
        credentials: Credentials,
        on_admitted: Callable[[ClientPlace], None],
        *,
        joins: bool = True,
    ) -> None:
        """Call *on_admitted* or reject *applicant*, now or after a delay.

        *joins* is whether it will be in the room, and not only publish. The place is given back
        when *on_admitted* returns, unless `join` or `subscribe` got it.
        """

    def cancel_wait(self, applicant: Applicant) -> None:
        """Note that *applicant* no longer waits to be admitted, if it did."""

    def join(
        self, connection: ParticipantConnection, join: JoinRequest, place: ClientPlace
    ) -> None:
        """Make *connection*, which has *place*, a member of the room that it asked for."""

    def subscribe(
        self, connection: SubscriberConnection, request: StreamRequest, place: ClientPlace
    ) -> None:
        """Make *connection*, which has *place*, a subscriber of the room that it asked for."""

    def publish(
        self,
        applicant: Applicant,
        request: PublishRequest,
        done: Callable[[Published | NotEnoughReceivers], None],
    ) -> None:
        """Publish a message, and call *done* once it was delivered; or reject *applicant*."""

    def receive(self, connection: ParticipantConnection, lines: str, size: int) -> None:
        """Take *lines* of text, *size* bytes in all, that *connection* received."""

    def call_after_batch(
        self, connection: ParticipantConnection, callback: Callable[[], None]
    ) -> None:
        """Call *callback* when the current batch of the connection's room is written."""

    def flow_changed(self, connection: ParticipantConnection) -> None:
        """Note that *connection* was paused or resumed."""

    def kick(self, connection: ParticipantConnection, rejection: Rejection) -> None:
        """Close *connection* for a fault of its client."""

    def leave(self, connection: ParticipantConnection) -> None:
        """Take *connection*, which is lost, out of its room, if it is in one."""
