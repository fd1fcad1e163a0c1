"""Proxies: whose word counts on where a request comes from."""

from __future__ import annotations

import pytest

from broadcast_server.proxies import Trusted, one, parse_trusted


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the left is the client's own
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
    """The rightmost address that is no trusted proxy counts, and only from a trusted peer."""
    trusted = parse_trusted("10.0.0.0/8, 2001:db8::1")
    assert trusted.client(peer, forwarded) == client


def test_the_client_behind_a_proxy_on_a_socket_file() -> None:
    """Who comes by a socket file is believed if that was said."""
    assert parse_trusted("unix").client(None, ["203.0.113.7"]) == "203.0.113.7"
    assert parse_trusted("unix").client("192.0.2.1", ["203.0.113.7"]) == "192.0.2.1"


def test_nobody_is_believed_by_default() -> None:
    """Without a trusted proxy the header is nothing."""
    assert Trusted().client("127.0.0.1", ["203.0.113.7"]) == "127.0.0.1"
    assert not Trusted()


def test_a_chain_without_an_end_is_not_followed_for_ever() -> None:
    """However many proxies are named, few are looked at."""
    trusted = parse_trusted("10.0.0.0/8")
    assert trusted.client("10.0.0.1", ["203.0.113.7" + ", 10.0.0.2" * 1000]) == "10.0.0.2"


def test_what_is_no_network_is_told() -> None:
    """A list with something else in it is refused by its name."""
    with pytest.raises(ValueError, match=r"'example\.org' is no address or network, nor unix"):
        parse_trusted("10.0.0.1, example.org")


@pytest.mark.parametrize(
    ("address", "place"),
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
def test_what_counts_as_one(address: str | None, place: str | None) -> None:
    """An IPv6 network of 64 bits is one, and this machine itself is none."""
    assert one(address) == place
