"""Addresses with a name and a password: no error shows any part of these."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broadcast_server.admission.trusted_proxies import parse_trusted_proxies
from broadcast_server.client.address import invalid_address, parse_address
from broadcast_server.http.allowed_hosts import parse_hosts
from broadcast_server.http.cors import parse_origins
from broadcast_server.protocol.userinfo import without_userinfo
from django_site.configuration.public_url import parse_public_url

SECRETS = [
    "https://u:sEcret@h/", "u:sEcret@h", "ws://u:sEc/ret@h:1/", "http://sEc#ret@[", "sEc,ret@h",
    "http://u:sEc@ret@h", "https://u:sEcret＠h/",
]  # fmt: skip


@pytest.mark.parametrize("value", SECRETS)
@pytest.mark.parametrize(
    "parse", [parse_trusted_proxies, parse_hosts, parse_origins, parse_public_url]
)
def test_lists_and_settings(parse: Callable[[str], object], value: str) -> None:
    """An error about a setting shows the host at most."""
    with pytest.raises(ValueError, match=r"\.\.\.@") as raised:
        parse(value)
    assert not {"sec", "ret"} & {str(raised.value).lower()[i : i + 3] for i in range(200)}


@pytest.mark.parametrize("value", [each for each in SECRETS if "#" not in each])
def test_the_address_of_a_server(value: str) -> None:
    """An error about the address of a server shows the host at most."""
    with pytest.raises(ValueError) as raised:  # its text is what is tested next
        parse_address(value)
    text = invalid_address(value, raised.value)
    assert text.startswith("...@")
    assert not {"sec", "ret"} & {text.lower()[i : i + 3] for i in range(200)}


def test_what_is_shown() -> None:
    """What follows the last @ is shown, and an address without one as it is."""
    assert without_userinfo("ws://h:1/x") == "ws://h:1/x"
    assert without_userinfo("ws://u:p@q@h:1/") == "...@h:1/"
