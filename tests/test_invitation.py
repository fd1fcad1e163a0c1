"""The invitation: what a person is told of how to join."""

from __future__ import annotations

import pytest

from broadcast_server.invitation import Invitation

FILE = "python3 ./broadcast-server.pyz"
LAN = "192.0.2.7", "10.1.2.3", "2001:db8::7"


@pytest.mark.parametrize(
    ("invitation", "lines"),
    [
        (
            Invitation(["ws://127.0.0.1:8765/"], LAN, FILE, handed_out=True),
            [
                "  page  http://127.0.0.1:8765/",
                "  join  python3 ./broadcast-server.pyz connect ws://127.0.0.1:8765/",
            ],
        ),
        (
            Invitation(["ws://0.0.0.0:8765/"], LAN, FILE, handed_out=True),
            [
                "  page  http://192.0.2.7:8765/",
                "        http://10.1.2.3:8765/",
                "  file  curl -O http://192.0.2.7:8765/broadcast-server.pyz",
                "  join  python3 broadcast-server.pyz connect ws://192.0.2.7:8765/",
            ],
        ),
        (
            Invitation(["wss://[::]:1/"], LAN, "/opt/bin/broadcast-server"),
            [
                "  page  https://[2001:db8::7]:1/",
                "  join  broadcast-server connect wss://[2001:db8::7]:1/",
            ],
        ),
        (
            Invitation(["ws://192.0.2.9:1/"], LAN, "x", token_file="my token"),
            [
                "  page  http://192.0.2.9:1/",
                "  join  broadcast-server connect ws://192.0.2.9:1/ --token-file FILE",
            ],
        ),
        (
            Invitation(["ws://[::1]:1/"], LAN, "x", token_file="my token"),
            [
                "  page  http://[::1]:1/",
                "  join  x connect ws://[::1]:1/ --token-file 'my token'",
            ],
        ),
        (
            Invitation(["ws://0.0.0.0:1/", "ws://[::]:1/"], (), "x"),
            ["  page  http://127.0.0.1:1/", "  join  x connect ws://127.0.0.1:1/"],
        ),
        (
            Invitation(["unix:/run/x"], LAN, FILE, handed_out=True, public="wss://chat.example/a/"),
            [
                "  page  https://chat.example/a/",
                "  file  curl -O https://chat.example/a/broadcast-server.pyz",
                "  join  python3 broadcast-server.pyz connect wss://chat.example/a/",
            ],
        ),
        (
            Invitation(["unix:/run/my room"], LAN, "x", handed_out=True),
            ["  join  x connect --unix '/run/my room'"],
        ),
    ],
    ids=["loopback", "file", "tls", "token", "own token", "no network", "public", "unix"],
)
def test_how_to_join(invitation: Invitation, lines: list[str]) -> None:
    """The page, the file if there is one, and a command that can be typed as it stands."""
    assert invitation.lines() == lines


def test_not_more_addresses_than_one_reads() -> None:
    """Of a machine in many networks the first four addresses are told."""
    many = [f"10.0.{net}.1" for net in range(9)]
    lines = Invitation(["ws://0.0.0.0:1/"], many, "x").lines()
    assert lines[3:] == [
        "        http://10.0.3.1:1/",
        "  join  broadcast-server connect ws://10.0.0.1:1/",
    ]


def test_a_picture_that_fits() -> None:
    """A picture is for others, is as wide as it is, and leaves a row for what comes next."""
    invitation = Invitation(["ws://0.0.0.0:8765/"], LAN, "x")
    assert len(invitation.picture(33, 18)) == 17
    assert invitation.picture(32, 18) == []
    assert invitation.picture(33, 17) == []
    for nobody in (Invitation(["ws://127.0.0.1:1/"], LAN, "x"), Invitation(["unix:/x"], LAN, "x")):
        assert nobody.picture(80, 24) == []
