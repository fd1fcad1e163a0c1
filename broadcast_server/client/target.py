"""The target: the server that a client connects to, as the command line's options describe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .address import is_confidential, with_port

if TYPE_CHECKING:
    import ssl

    from .proxy import Proxy


class Target(NamedTuple):
    """A server, and how to connect to it."""

    url: str
    """The WebSocket's URL, without a query."""
    query: dict[str, str]
    """The query parameters of the address that was given."""
    token: str | None
    unix: str | None
    """Path of a Unix socket, used instead of the URL's host and port."""
    authorities: ssl.SSLContext | None
    """The trusted certificate authorities; None means those of the system."""
    proxy: Proxy | None = None
    """The HTTP proxy to go through; None for a direct connection."""
    operator_key: str | None = None

    @property
    def description(self) -> str:
        """The address, as messages to the user show it."""
        return with_port(self.url) if self.unix is None else f"unix:{self.unix}"

    @property
    def exposes_token(self) -> bool:
        """Whether anyone on the network path can read the token or the operator key."""
        has_secret = self.token is not None or self.operator_key is not None
        return has_secret and not is_confidential(self.url)
