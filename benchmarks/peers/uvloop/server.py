"""Our own server on uvloop, which `start` does not use: it would gain next to nothing."""

import logging
import sys

import uvloop

from broadcast_server.server import Settings, serve

logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
uvloop.run(serve(Settings(port=int(sys.argv[1])), print))
