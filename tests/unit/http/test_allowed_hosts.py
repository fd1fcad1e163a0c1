"""Allowed hosts: under which names a server answers, and how they are read."""

from __future__ import annotations

import pytest

from broadcast_server.http.allowed_hosts import AllowedHosts, check_host, host_name, parse_hosts

LOOPBACK = AllowedHosts(frozenset({"chat.example.org", ".wild.example"}))
EXPOSED = LOOPBACK._replace(exposed=True, is_own={"pc.cs.example.edu"}.__contains__)


@pytest.mark.parametrize(
    ("host", "loopback", "exposed"),
    [
        ("localhost", True, True),
        ("LOCALHOST:8765", True, True),
        ("localhost.", True, True),
        ("a.localhost:1", True, True),
        ("127.0.0.1:8765", True, True),
        ("127.1.2.3", True, True),
        ("[::1]:8765", True, True),
        ("[0:0:0:0:0:0:0:1]", True, True),
        ("[::ffff:127.0.0.1]", True, True),
        ("chat.example.org", True, True),
        ("chat.example.org:", True, True),
        ("Chat.Example.ORG.:443", True, True),
        ("a.wild.example", True, True),
        ("192.0.2.7:8765", False, True),
        ("[2001:db8::1]", False, True),
        ("0.0.0.0:8765", False, True),
        ("[::]", False, True),
        ("teacher-laptop", False, True),
        ("teacher-laptop.local:8765", False, True),
        ("my_app", False, True),
        ("nas.lan", False, True),
        ("nas.home.arpa", False, True),
        ("ip-10-0-0-1.internal", False, True),
        ("pc.cs.example.edu", False, True),
        ("evil.example", False, False),
        ("a.chat.example.org", False, False),
        ("wild.example", False, False),
        ("xwild.example", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("local.evil.example", False, False),
        ("127.1", False, False),
        ("evil.example:80", False, False),
    ],
)
def test_hosts(host: str, loopback: bool, exposed: bool) -> None:
    """A server for its machine alone has fewer names than one that others reach."""
    for allowed, expected in ((LOOPBACK, loopback), (EXPOSED, exposed)):
        rejection = check_host("/", [host], allowed)
        assert (rejection is None) is expected
        assert rejection is None or rejection.status == 421
    assert check_host("/", [host], AllowedHosts(frozenset({"*"}))) is None


@pytest.mark.parametrize(
    "host",
    [
        "", " ", "a b", "a,b", "a/b", "u@a", "localhost:x", "localhost:123456", "[::1", "::1",
        "[evil.example]", "[::1%25eth0]", "[1]", "http://localhost", "localhost\x00", "b\xfccher",
    ],
)  # fmt: skip
def test_an_invalid_host(host: str) -> None:
    """What is no HOST or HOST:PORT is invalid."""
    rejection = check_host("/", [host], EXPOSED)
    assert rejection is not None and rejection.status == 400
    assert host_name(host) is None


def test_the_rejection_says_what_to_do() -> None:
    """The response names the host, and the option that adds it."""
    rejection = check_host("/", ["evil.example:80"], LOOPBACK)
    assert rejection is not None
    text = "evil.example is not a name of this server (start --allow-host adds it)\n"
    assert b"".join(rejection.body).decode() == text


def test_targets_and_several_hosts() -> None:
    """A target in absolute form has to name the server, too. Two Host headers are an error."""
    assert check_host("http://localhost:1/stream", ["localhost"], LOOPBACK) is None
    for target in (
        "http://evil.example/",
        "HTTPS://evil.example?x",
        "http://localhost@evil.example",
    ):
        rejection = check_host(target, ["localhost"], LOOPBACK)
        assert rejection is not None and rejection.status in (400, 421), target
    assert check_host("/", [], LOOPBACK) is None
    rejection = check_host("/", ["localhost", "localhost"], LOOPBACK)
    assert rejection is not None and rejection.status == 400


def test_a_list_of_hosts() -> None:
    """A list of names is read in lower case; what could not match a Host header is an error."""
    names = parse_hosts("Chat.Example.org, .wild.example,,[2001:DB8:0::1], 192.0.2.1,*,a.")
    assert names == {"chat.example.org", ".wild.example", "2001:db8::1", "192.0.2.1", "*", "a"}
    assert parse_hosts("") == frozenset()
    for item in ("a:80", "http://a", "a/", "a b", "*.example.org", "..a", ".", "b\xfccher.example"):
        with pytest.raises(ValueError, match="is not a host name"):
            parse_hosts(f"a.example,{item}")
