"""The one writer of what lasts from one start of the daemon to the next."""

from lmx.actors.base import Actor
from lmx.actors.messages import state


class StateActor(Actor[state.Message]):
    def receive(self, message: state.Message) -> None:
        pass
