"""Scales that know before they are asked."""

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines.types import ModelSpec


class Weighs:
    """Every model alike; answers at once."""

    def __init__(self, nbytes: int, problem: str = "", kv_per_token: int = 0, left: int = 10**15) -> None:
        self.left = left
        self.nbytes = nbytes
        self.problem = problem
        self.kv_per_token = kv_per_token

    def free(self) -> int:
        return self.left

    def weigh(self, spec: ModelSpec, ticket: int, owner: Ref[model.Message]) -> None:
        owner.tell(model.Weighed(ticket, self.nbytes, self.kv_per_token, self.problem))
