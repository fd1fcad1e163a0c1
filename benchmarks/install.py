"""Install what peers need besides Python packages: Node modules, and the compiled Go program.

Everything goes into `build/`, which git ignores. Debian packages are left to the user.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from .servers import BUILT, PEERS

NODE_MODULES = ("ws@8", "socket.io@4")
GOPATH = "/usr/share/gocode"  # where Debian's golang-github-gorilla-websocket-dev puts it


def install() -> None:
    """Install the Node modules if there is npm, and build the Go program if there is go."""
    BUILT.mkdir(parents=True, exist_ok=True)
    if shutil.which("npm"):
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(BUILT)]
        subprocess.run([*npm, *NODE_MODULES], check=True)
    if shutil.which("go"):
        go = ["go", "build", "-o", str(BUILT / "gorilla"), str(PEERS / "gorilla" / "server.go")]
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": GOPATH}
        subprocess.run(go, check=True, env=environment)
