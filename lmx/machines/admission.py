"""Whether requests are taken at all: by how many are in flight, with hysteresis so that it does not flap."""

from msgspec import Struct
from statemachine import State

from lmx.machines.base import Effect, Machine
from lmx.machines.types import Refusal, RefusalKind


class TellDrained(Effect, frozen=True):
    """Nothing is in flight any more and nothing will be."""


class Limits(Struct, frozen=True):
    """How many requests may be in flight, each with all its sequences; `throttle_at` <= `max_in_flight`."""

    max_in_flight: int = 256
    throttle_at: int = 128
    per_client: int = 64
    """What one client may hold while admission is throttled."""

    @property
    def relax_below(self) -> int:
        """A quarter under the threshold: the hysteresis of both steps."""
        return max(1, self.throttle_at * 3 // 4)


class AdmissionMachine(Machine):
    """open ⇄ throttled ⇄ shedding, each → draining → closed."""

    open = State(initial=True)
    throttled = State()
    shedding = State()
    draining = State()
    closed = State(final=True)

    throttle = open.to(throttled)
    shed = throttled.to(shedding) | open.to(shedding)
    ease = shedding.to(throttled)
    relax = throttled.to(open)
    drain = open.to(draining) | throttled.to(draining) | shedding.to(draining)
    drained = draining.to(closed)

    def on_enter_closed(self) -> None:
        self.emit(TellDrained())


def pressure(state: str, in_flight: int, limits: Limits) -> str | None:
    """The event that the number of requests in flight calls for in `state`; None = stay."""
    if state == "draining":
        return "drained" if in_flight == 0 else None
    if in_flight >= limits.max_in_flight:
        return "shed" if state in ("open", "throttled") else None
    if state == "open" and in_flight >= limits.throttle_at:
        return "throttle"
    if state == "shedding" and in_flight < max(1, limits.max_in_flight * 15 // 16):
        return "ease"
    if state == "throttled" and in_flight < limits.relax_below:
        return "relax"
    return None


def judge(state: str, in_flight: int, of_client: int, seconds_each: float, limits: Limits) -> Refusal | None:
    """Why one more request of a client that holds `of_client` cannot be taken now; None = take it.

    `seconds_each` is how long one slot of the queue takes to become free lately: it makes the Retry-After.
    """
    if state in ("draining", "closed"):
        return Refusal(RefusalKind.DRAINING, "The server is shutting down and takes no new requests.", 5.0)
    if state == "shedding":
        wait = min(60.0, max(1.0, seconds_each * in_flight / 16))
        return Refusal(RefusalKind.QUEUE_FULL, f"{in_flight} requests are in flight, which is the limit.", wait)
    if state == "throttled" and of_client >= limits.per_client:
        wait = min(60.0, max(1.0, seconds_each * of_client / 16))
        text = f"The server is busy and you have {of_client} requests in flight; {limits.per_client} are your share."
        return Refusal(RefusalKind.QUEUE_FULL, text, wait)
    return None
