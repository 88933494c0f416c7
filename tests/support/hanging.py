"""lmx, but SIGUSR2 makes a part of it hang: `python hanging.py loop|actor serve …`."""

import signal
import sys
import threading

import pykka

from lmx.actors.journal import JournalActor
from lmx.actors.messages import journal
from lmx.cli import run
from tests.support.witness.hook import install_in_server


def hang_for_ever() -> None:
    threading.Event().wait()


class Hole:
    """An address that never lets go of who tells it something."""

    def tell(self, message: object) -> None:
        hang_for_ever()


def hang_an_actor() -> None:
    pykka.ActorRegistry.get_by_class(JournalActor)[0].tell(journal.Read(Hole()))


PARTS = {"loop": hang_for_ever, "actor": hang_an_actor}

if __name__ == "__main__":
    hang = PARTS[sys.argv[1]]
    install_in_server()
    # Python runs this in the main thread, between two instructions: the event loop does nothing else meanwhile.
    signal.signal(signal.SIGUSR2, lambda *_: hang())
    sys.exit(run(sys.argv[2:]))
