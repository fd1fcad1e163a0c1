"""The public site: where a user of a request reaches the site, as far as it can be trusted.

A request says so itself in its Host header. Django checks the name in it, and neither the port nor
the dot that may be at its end. Whoever requests a mail for somebody else must not choose where its
link leads, so that header gives nothing but the name.
"""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.urls import get_script_prefix

from django_site.configuration.public_url import DEFAULT_PORTS, PublicURL, netloc


class PublicSite(NamedTuple):
    """The scheme of the site, and its host with the port where that is not the default."""

    scheme: str
    netloc: str

    @property
    def secure(self) -> bool:
        """Whether users reach the site over TLS."""
        return self.scheme == "https"

    @property
    def socket_address(self) -> str:
        """The address of the rooms, which clients are given."""
        return f"{'wss' if self.secure else 'ws'}://{self.netloc}{get_script_prefix()}"


def public_site(request: HttpRequest) -> PublicSite:
    """Return the site of a request.

    Without `BROADCAST_PUBLIC_URL` it has the port that the server listens at, if the client has
    asked for that one, else the default of the scheme, as behind a proxy.
    """
    given: PublicURL | None = settings.BROADCAST_PUBLIC_URL
    if given is not None:
        return PublicSite(given.scheme, given.netloc)
    scheme = request.scheme or "http"
    host, port = split_domain_port(request.get_host())
    listening = port not in ("", "0") and port == request.META.get("SERVER_PORT")
    return PublicSite(
        scheme, netloc(scheme, host, int(port) if listening else DEFAULT_PORTS[scheme])
    )
