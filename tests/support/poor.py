"""lmx, but SIGUSR2 leaves it no process and no thread to start, and a second one gives all back: `poor.py serve …`.

Root is bound by no such limit; started by `PROGRAM` it counts as somebody else, who may read what root may.
"""

import os
import resource
import signal
import sys

from lmx.cli import run
from tests.support.witness.hook import install_in_server

AS_NOBODY = ("setpriv", "--ruid=65534", "--bounding-set=-sys_resource,-sys_admin")
PROGRAM = (*(AS_NOBODY if os.getuid() == 0 else ()), sys.executable, __file__)


def toggle() -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0 if limit else most, most))


if __name__ == "__main__":
    install_in_server()
    signal.signal(signal.SIGUSR2, lambda *_: toggle())
    sys.exit(run(sys.argv[1:]))
