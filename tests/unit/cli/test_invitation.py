"""The invitation: the lines that tell a person how to join."""

from __future__ import annotations

import pytest

from broadcast_server.cli.invitation import Invitation

FILE = "python3 ./broadcast-server.pyz"
LAN = "192.0.2.7", "10.1.2.3", "2001:db8::7"


@pytest.mark.parametrize(
    ("invitation", "lines"),
    [
        (
            Invitation(["ws://127.0.0.1:8765/"], LAN, FILE, serves_program=True),
            [
                "  page  http://127.0.0.1:8765/",
                "  join  python3 ./broadcast-server.pyz connect ws://127.0.0.1:8765/",
            ],
        ),
        (
            Invitation(["ws://0.0.0.0:8765/"], LAN, FILE, serves_program=True),
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
            Invitation(
                ["unix:/run/x"], LAN, FILE, serves_program=True, public="wss://chat.example/a/"
            ),
            [
                "  page  https://chat.example/a/",
                "  file  curl -O https://chat.example/a/broadcast-server.pyz",
                "  join  python3 broadcast-server.pyz connect wss://chat.example/a/",
            ],
        ),
        (
            Invitation(["unix:/run/my room"], LAN, "x", serves_program=True),
            ["  join  x connect --unix '/run/my room'"],
        ),
    ],
    ids=["loopback", "file", "tls", "token", "own token", "no network", "public", "unix"],
)
def test_lines(invitation: Invitation, lines: list[str]) -> None:
    """The lines have the page, the file if it is served, and a command that can be copied."""
    assert invitation.lines() == lines


def test_addresses_are_bounded() -> None:
    """On a machine in many networks, the first four addresses are printed."""
    many = [f"10.0.{net}.1" for net in range(9)]
    lines = Invitation(["ws://0.0.0.0:1/"], many, "x").lines()
    assert lines[3:] == [
        "        http://10.0.3.1:1/",
        "  join  broadcast-server connect ws://10.0.0.1:1/",
    ]


def test_a_qr_symbol_that_fits() -> None:
    """The QR symbol needs its width, one row to spare, and an address for other machines."""
    invitation = Invitation(["ws://0.0.0.0:8765/"], LAN, "x")
    assert len(invitation.qr_lines(33, 18)) == 17
    assert invitation.qr_lines(32, 18) == []
    assert invitation.qr_lines(33, 17) == []
    for local in (Invitation(["ws://127.0.0.1:1/"], LAN, "x"), Invitation(["unix:/x"], LAN, "x")):
        assert local.qr_lines(80, 24) == []
