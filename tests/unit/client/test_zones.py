"""Zones: link-local addresses of IPv6, which need the name of an interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT

from broadcast_server.client.address import parse_address, with_port, without_zone

SCRIPT = Path(__file__).with_name("zone_script.py")

NAMESPACE = "ip link set lo up && ip addr add fe80::1/64 dev lo nodad"


@pytest.mark.parametrize(
    ("typed", "url", "sent"),
    [
        ("ws://[fe80::1%eth0]:1/", "ws://[fe80::1%eth0]:1/", "ws://[fe80::1]:1/"),
        ("ws://[fe80::1%25eth0]:1/", "ws://[fe80::1%eth0]:1/", "ws://[fe80::1]:1/"),
        ("https://[fe80::1%25eth0]/a%20b", "wss://[fe80::1%eth0]/a%20b", "wss://[fe80::1]/a%20b"),
        ("[fe80::1%En0]", "ws://[fe80::1%En0]:8765/", "ws://[fe80::1]:8765/"),
        ("ws://[fe80::1%25]/", "ws://[fe80::1%25]/", "ws://[fe80::1]/"),
        ("ws://h/[a%20b]", "ws://h/[a%20b]", "ws://h/[a%20b]"),
    ],
)
def test_zones_in_addresses(typed: str, url: str, sent: str) -> None:
    """A zone may be written as in a URL or as everywhere else, and is not sent to the server."""
    parsed, _ = parse_address(typed, 8765)
    assert parsed == url
    assert without_zone(parsed) == sent
    assert "%" in with_port(parsed)


def test_all_commands_use_link_local_addresses() -> None:
    """A server that listens on a link-local address names its zone, and all clients reach it."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("ip") is None:
        pytest.skip("network namespaces need unshare and ip")
    prefix = [unshare, "-n", "sh", "-c"]
    if subprocess.run([*prefix, NAMESPACE], check=False, capture_output=True).returncode:
        prefix.insert(1, "-r")
        if subprocess.run([*prefix, NAMESPACE], check=False, capture_output=True).returncode:
            pytest.skip("no network namespace may be made here")
    done = subprocess.run(
        [*prefix, f'{NAMESPACE} && exec "$@"', "sh", sys.executable, str(SCRIPT)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
