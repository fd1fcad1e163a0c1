"""Our standalone server on uvloop. `start` does not use that, since it gains next to nothing."""

import logging
import sys

import uvloop

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.server.serve import serve
from broadcast_server.server.settings import Settings

logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
uvloop.run(serve(Settings(port=int(sys.argv[1]), limits=AdmissionLimits(rate=0)), print))
