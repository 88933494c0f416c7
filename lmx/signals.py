"""SIGTERM and SIGINT ask the daemon to stop, SIGHUP does nothing; SIGUSR1 prints what every thread is doing."""

import asyncio
import faulthandler
import signal
from collections.abc import Callable

import structlog

STDERR = 2
"""`sys.stderr` may be closed."""


def install(loop: asyncio.AbstractEventLoop, stop: Callable[[str], None]) -> None:
    """`stop(reason)` is called in the loop, once for every signal."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, f"{signal.Signals(number).name} was received.")
    loop.add_signal_handler(signal.SIGHUP, _hang_up)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who starts us may ignore it: then nobody learns how workers end
    faulthandler.enable(file=STDERR)  # systemd's watchdog ends a process that hangs with SIGABRT
    faulthandler.register(signal.SIGUSR1, file=STDERR, all_threads=True)


def _hang_up() -> None:
    structlog.get_logger().warning("sighup_ignored", reason="lmx reads its config once: start it again to change it.")
