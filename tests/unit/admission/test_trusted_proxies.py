"""Trusted proxies: the address that a client behind a proxy really has."""

from __future__ import annotations

import pytest

from broadcast_server.admission.trusted_proxies import (
    TrustedProxies,
    client_key,
    parse_trusted_proxies,
)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the client wrote the left one
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2", "10.0.0.3"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.9"], "10.0.0.9"),
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1"),  # not trusted
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("2001:db8::1", ["2001:db8:1::7"], "2001:db8:1::7"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ["[2001:db8:1::7]:4711"], "2001:db8:1::7"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, "], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%\x1b[31m"], "fe80::1"),
        ("10.0.0.1", ["\u202e7.113.0.302"], "10.0.0.1"),
        (None, ["203.0.113.7"], None),
    ],
)
def test_the_client_behind_a_proxy(peer: str | None, forwarded: list[str], client: str) -> None:
    """The rightmost address that is not a trusted proxy counts, if the peer is trusted."""
    trusted = parse_trusted_proxies("10.0.0.0/8, 2001:db8::1")
    assert trusted.client_address(peer, forwarded) == client


def test_the_client_behind_a_proxy_on_a_unix_socket() -> None:
    """A peer on a Unix socket is trusted only if the list has `unix`."""
    assert parse_trusted_proxies("unix").client_address(None, ["203.0.113.7"]) == "203.0.113.7"
    assert parse_trusted_proxies("unix").client_address("192.0.2.1", ["203.0.113.7"]) == "192.0.2.1"


def test_no_proxy_is_trusted_by_default() -> None:
    """Without trusted proxies the header is ignored."""
    assert TrustedProxies().client_address("127.0.0.1", ["203.0.113.7"]) == "127.0.0.1"
    assert not TrustedProxies()


def test_a_long_chain_of_proxies_is_not_followed_to_its_end() -> None:
    """However many addresses the header has, only the last few are read."""
    trusted = parse_trusted_proxies("10.0.0.0/8")
    assert trusted.client_address("10.0.0.1", ["203.0.113.7" + ", 10.0.0.2" * 1000]) == "10.0.0.2"


def test_an_invalid_item_is_named_in_the_error() -> None:
    """An item that is neither an address nor a network is rejected and named."""
    with pytest.raises(ValueError, match=r"'example\.org' is not an address, a network or unix"):
        parse_trusted_proxies("10.0.0.1, example.org")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("127.0.0.1", None),
        ("::1", None),
        (None, None),
    ],
)
def test_the_key_of_an_address(address: str | None, key: str | None) -> None:
    """An IPv6 network of 64 bits has one key, and the local machine has none."""
    assert client_key(address) == key
