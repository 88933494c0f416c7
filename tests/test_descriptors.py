"""Open files, in processes of their own: a limit that is lowered stays so."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code: str, shell: str = "") -> str:
    """What a Python prints that was started by `shell`; it may import lmx and this process's limits do not change."""
    command = ["sh", "-c", f'{shell} exec "$@"', "sh", sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    """launchd starts a job with 256: 8192, or what the hard limit allows; never lowered."""
    code = "from lmx.descriptors import *; print(raise_limit(), connections())"
    assert run(code, "ulimit -Hn 10000; ulimit -Sn 256;") == "8192 1024"
    assert run(code, "ulimit -n 800;") == "800 200"
    assert run(code, "ulimit -Hn 10000; ulimit -Sn 9000;") == "9000 1024"


def test_no_socket_gets_the_number_of_a_closed_stream() -> None:
    """F61: what a library prints would otherwise go to a client."""
    code = """
import os, socket
from lmx.descriptors import fill_standard
fill_standard()
with socket.socket() as sock:
    null = os.stat("/dev/null").st_rdev
    print(sock.fileno() > 2, [os.fstat(fd).st_rdev == null for fd in (0, 2)])
"""
    assert run(code, "exec 0<&- 2>&-;") == "True [True, True]"


RESERVE = """
import errno, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from lmx.descriptors import Reserve
reserve = Reserve()
taken = []
while True:
    try: taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
        break
"""


def test_a_worker_can_be_started_when_no_file_is_left() -> None:
    """F24: eight descriptors are kept back for what must work; afterwards they are kept back again."""
    code = (
        RESERVE
        + """
def start():
    ends = os.pipe()
    return [*ends, *os.pipe()]
made = reserve.use(start)
assert len(made) == 4
for fd in made: os.close(fd)
again = reserve.use(start)
print(len(again))
"""
    )
    assert run(code) == "4"


def test_another_fault_is_not_its_business() -> None:
    """And what needs more than the reserve fails as it would have."""
    code = (
        RESERVE
        + """
def many(): return [os.pipe() for _ in range(9)]
for make, expected in ((lambda: os.open("/nope", 0), errno.ENOENT), (many, errno.EMFILE)):
    try: reserve.use(make)
    except OSError as error: print(error.errno == expected)
"""
    )
    assert run(code).split() == ["True", "True"]
