"""SIGTERM and SIGINT ask the daemon to stop; SIGUSR1 prints what every thread is doing."""

import asyncio
import faulthandler
import signal
from collections.abc import Callable


def install(loop: asyncio.AbstractEventLoop, stop: Callable[[str], None]) -> None:
    """`stop(reason)` is called in the loop, once for every signal."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, f"{signal.Signals(number).name} was received.")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
