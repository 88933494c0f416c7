"""lmx, but SIGUSR2 leaves it no process and no thread to start, and SIGUSR1 gives it all back: `python poor.py serve …`.

Root is bound by no such limit; started by `PROGRAM` it counts as somebody else, who may read what root may.
"""

import os
import resource
import signal
import sys

from lmx.cli import run

AS_NOBODY = ("setpriv", "--ruid=65534", "--bounding-set=-sys_resource,-sys_admin")
PROGRAM = (*(AS_NOBODY if os.getuid() == 0 else ()), sys.executable, __file__)


def allow(processes: int) -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, MOST[1]))


if __name__ == "__main__":
    MOST = resource.getrlimit(resource.RLIMIT_NPROC)
    signal.signal(signal.SIGUSR2, lambda *_: allow(0))
    signal.signal(signal.SIGUSR1, lambda *_: allow(MOST[0]))
    sys.exit(run(sys.argv[1:]))
