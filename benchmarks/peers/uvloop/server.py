"""Our standalone server on uvloop. `start` does not use that, since it gains next to nothing."""

import runpy

import uvloop

uvloop.install()
runpy.run_module("broadcast_server", run_name="__main__", alter_sys=True)
