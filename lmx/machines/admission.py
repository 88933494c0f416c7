"""Whether requests are taken at all: by how many there are, with hysteresis so that it does not flap."""

from typing import Literal

from msgspec import Struct
from statemachine import State

from lmx.machines.base import Effect, Machine
from lmx.machines.types import Refusal, RefusalKind

DRAINING = Refusal(RefusalKind.DRAINING, "The server is shutting down and takes no new requests.", 5.0)


class TellDrained(Effect, frozen=True):
    """Nothing is in flight any more and nothing will be."""


class Limits(Struct, frozen=True):
    """How many requests may be here, each with all its sequences. The class `batch` may fill half of either queue."""

    queue: int = 256
    """Requests that wait, for all models together."""
    queue_per_client: int = 64
    max_in_flight: int = 512
    """Requests between admission and the last byte: those that wait, run, or are read by slow clients."""


class Ask(Struct, frozen=True):
    """What `judge` has to know of a request that comes now."""

    waits: bool
    """Its model has no room at present."""
    batch: bool
    in_flight: int
    waiting: int
    waiting_batch: int
    of_client: int
    """How many wait of the one who asks."""
    clients: int
    """How many others have something waiting."""
    ahead: int
    """Sequences that wait for the same model."""
    seconds_each: float
    """How long a sequence takes there lately,"""
    at_once: int
    """of which so many go on side by side."""


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


def pressure(state: str, in_flight: int, waiting: int, limits: Limits) -> str | None:
    """The event that the number of requests calls for in `state`; None = stay. Steps down come a quarter lower."""
    if state == "draining":
        return "drained" if in_flight == 0 else None
    full = waiting >= limits.queue or in_flight >= limits.max_in_flight
    if full:
        return "shed" if state in ("open", "throttled") else None
    if state == "open" and 2 * waiting >= limits.queue:
        return "throttle"
    relieved = 16 * waiting < 15 * limits.queue and 16 * in_flight < 15 * limits.max_in_flight
    if state == "shedding" and (relieved or not in_flight):
        return "ease"
    if state == "throttled" and (8 * waiting < 3 * limits.queue or not waiting):
        return "relax"
    return None


def judge(state: str, pressed: bool, ask: Ask, limits: Limits) -> Refusal | None:
    """Why one more request cannot be taken now; None = take it. `pressed`: memory is short.

    Whoever need not wait is not refused for the length of a queue. While throttled, nobody may have more than an equal
    part of the queue, so that there is room for who comes next.
    """
    if state in ("draining", "closed"):
        return DRAINING
    if pressed:
        return Refusal(RefusalKind.MEMORY_PRESSURE, "Memory is short: no new requests are taken for now.", 10.0)
    if ask.in_flight >= limits.max_in_flight:
        return _full(f"{ask.in_flight} requests are in flight, which is the limit.", ask, ask.ahead + 1)
    if not ask.waits:
        return None
    share = limits.queue // (ask.clients + 1) if state != "open" else limits.queue
    own = max(1, _part(min(limits.queue_per_client, share), ask.batch))
    if ask.of_client >= own:
        text = f"{ask.of_client} of your requests are waiting; {own} are your share."
        return _full(text, ask, min(ask.ahead, ask.of_client * (ask.clients + 1)))
    if state == "shedding" or ask.waiting >= limits.queue:
        return _full(f"{ask.waiting} requests are waiting, which is too many for another one.", ask, ask.ahead)
    if ask.batch and ask.waiting_batch >= max(1, _part(limits.queue, ask.batch)):
        return _full(f"{ask.waiting_batch} batch requests are waiting, which is the limit.", ask, ask.ahead)
    return None


def wait_seconds(ahead: int, seconds_each: float, at_once: int) -> float:
    """When a sequence with so many `ahead` of it would begin: the Retry-After of who cannot wait here; 1 to 60 s."""
    return min(60.0, max(1.0, seconds_each * ahead / max(1, at_once)))


def unknown(name: str) -> Refusal:
    shown = name if len(name) <= 100 else name[:100] + "…"
    text = f"The model `{shown}` does not exist or you do not have access to it."
    return Refusal(RefusalKind.MODEL_NOT_FOUND, text, param="model")


def _full(text: str, ask: Ask, ahead: int) -> Refusal:
    return Refusal(RefusalKind.QUEUE_FULL, text, wait_seconds(ahead, ask.seconds_each, ask.at_once))


def _part(places: int, batch: bool) -> int:
    return places // 2 if batch else places


def duplicate(retry: bool) -> Literal["supersede", "refuse"]:
    """What becomes of a request with the Idempotency-Key of one of its client that is still at work.

    A retry takes its place: nobody waits for the older one any more. Anything else is a mistake of the client.
    """
    return "supersede" if retry else "refuse"
