"""The deep check: one verdict for each part of lmx and of the machine, from the journal's board and a look at both."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from lmx.actors.messages.journal import Board, Fact, MachineView
from lmx.actors.messages.vitals import Vitals
from lmx.http import board
from lmx.http.readiness import REFUSING, answered_at

Status = Literal["ok", "degraded", "critical"]
ORDER: tuple[Status, ...] = ("ok", "degraded", "critical")

LITTLE_DISK, NO_DISK = 2_000_000_000, 200_000_000
SLOW_SECONDS, STUCK_SECONDS = 1.0, 5.0
MUCH_MEMORY, ALL_MEMORY = 0.9, 0.98
MANY_FILES = 0.8
BROKEN = ("failed", "quarantined", "backoff", "killed", "unkillable")


class Check(Struct, frozen=True):
    status: Status
    reason: str = ""
    """A sentence, unless it is ok."""
    facts: dict[str, Any] = {}


class Health(Struct, frozen=True):
    status: Status
    """The worst of the checks."""
    checks: dict[str, Check]


def examine(known: Board | None, vitals: Vitals | None, now: float, queued: Mapping[str, int] | None = None) -> Health:
    """`now` is unix time, `queued` the requests that wait, by model.

    None: the journal, or who looks at the machine, did not answer in time.
    """
    checks: dict[str, Check] = {}
    if known is not None:
        views = board.by_actor(known)
        checks |= {name: check(views, now) for name, check in OF_THE_BOARD.items()}
        checks["queue"] = queue(views, queued or {})
    else:
        checks["journal"] = Check("critical", "The journal does not answer.")
    if vitals is not None:
        checks |= {name: look(vitals) for name, look in OF_THE_MACHINE.items()}
    else:
        checks["machine"] = Check("degraded", "A look at the machine takes too long: a disk or a sensor may hang.")
    checks["helper"] = Check("ok", "", {"state": "absent"})
    return Health(worst(check.status for check in checks.values()), checks)


def worst(statuses: Iterable[Status]) -> Status:
    return max(statuses, key=ORDER.index, default="ok")


Views = Mapping[str, MachineView]


def server(views: Views, _: float) -> Check:
    state = views[board.SERVER].state if board.SERVER in views else "unknown"
    facts = {"state": state}
    if state == "serving":
        return _safe(views, facts)
    status: Status = "degraded" if state in ("starting", "recovering", "draining") else "critical"
    return Check(status, f"It is {state}.", facts)


def _safe(views: Views, facts: dict[str, Any]) -> Check:
    """In safe mode requests may all be refused, though nothing is broken: the reason says why."""
    loader = views.get(board.LOADER)
    reason = str(loader.facts.get("safe_mode") or "") if loader is not None else ""
    return Check("degraded" if reason else "ok", reason, facts)


def worker(views: Views, now: float) -> Check:
    """Critical when every model is broken; one that nobody has wanted yet is not."""
    models = _models(views)
    facts = {name: _life(view, now) for name, view in models.items()}
    broken = {name: f"is in {view.state}: {board.why(view)}" for name, view in models.items() if view.state in BROKEN}
    slow = {name: f"is worse: {view.facts['degraded']}" for name, view in models.items() if view.facts.get("degraded")}
    if not broken and not slow:
        return Check("ok", "", facts)
    reason = " ".join(f"Model {name} {why}" for name, why in {**slow, **broken}.items())
    return Check("critical" if len(broken) == len(models) else "degraded", reason, facts)


LIFE = (
    "pid", "in_flight", "restarts", "retry_at", "first_cause", "last_exit", "quarantine", "held_back", "degraded",
    "fewer_slots",
)  # fmt: skip


def _life(view: MachineView, now: float) -> dict[str, Any]:
    life: dict[str, Any] = {"state": view.state, **_picked(view, LIFE)}
    if view.state == "ready":
        life["answered_seconds_ago"] = round(max(0.0, now - answered_at(view, now)), 1)
    return life


def gpu(views: Views, _: float) -> Check:
    """What the workers hold of the device; the backends tell."""
    held = {name: view.facts.get("device_bytes") for name, view in _models(views).items()}
    return Check("ok", "", {"device_bytes": {name: size for name, size in held.items() if size}})


def workers_memory(views: Views, _: float) -> Check:
    facts = {name: view.facts.get("memory_bytes") for name, view in _models(views).items()}
    rung = views[board.MEMORY].state if board.MEMORY in views else "nominal"
    told: dict[str, Any] = {"rung": rung, "worker_bytes": {name: size for name, size in facts.items() if size}}
    if rung == "nominal":
        return Check("ok", "", told)
    return Check("critical" if rung in REFUSING else "degraded", f"Memory is short: {rung}.", told)


def queue(views: Views, queued: Mapping[str, int]) -> Check:
    """Who waits and who is served."""
    state = views[board.ADMISSION].state if board.ADMISSION in views else "unknown"
    in_flight = sum(_count(model.facts.get("in_flight")) for model in _models(views).values())
    facts: dict[str, Any] = {"state": state, "in_flight": in_flight, "queued": sum(queued.values()), "by_model": queued}
    if state in ("throttled", "shedding"):
        return Check("degraded", f"It is {state}: there are more requests than can be served.", facts)
    return Check("ok", "", facts)


def keeping(views: Views, _: float) -> Check:
    """What is written down: the state and the journal."""
    known = ("state_recovered", "state_error", "journal_error")
    facts = {name: fact for view in views.values() for name, fact in _picked(view, known).items()}
    return Check("degraded", "What lasts or what happens is not all written down.", facts) if facts else Check("ok")


def machine_memory(vitals: Vitals) -> Check:
    used = 1 - vitals.memory_available / vitals.memory_total
    facts = {
        "used_share": round(used, 3),
        "available_bytes": vitals.memory_available,
        "total_bytes": vitals.memory_total,
        "main_process_bytes": vitals.process_bytes,
    }
    return _graded(used >= MUCH_MEMORY, used >= ALL_MEMORY, f"{used:.0%} of the memory is used.", facts)


def disk(vitals: Vitals) -> Check:
    facts = {"free_bytes": vitals.disk_free, "state_writable": vitals.state_writable}
    if not vitals.state_writable:
        return Check("critical", "The folder of the state cannot be written to.", facts)
    free = vitals.disk_free
    if free is None:
        return Check("degraded", "The disk does not tell how much of it is free.", facts)
    return _graded(free < LITTLE_DISK, free < NO_DISK, f"{free / 1e6:.0f} MB of the disk are free.", facts)


def thermal(vitals: Vitals) -> Check:
    facts = {"heat": vitals.heat, "detail": vitals.heat_detail}
    return _graded(vitals.heat == "hot", False, "The machine is so hot that it slows down.", facts)


def lag(vitals: Vitals) -> Check:
    """How long the event loop and the actors take to answer."""
    longest = max(vitals.lags.values(), default=0.0)
    slow = ", ".join(name for name, seconds in vitals.lags.items() if seconds >= SLOW_SECONDS)
    facts = {"seconds": vitals.lags}
    return _graded(longest >= SLOW_SECONDS, longest >= STUCK_SECONDS, f"Slow to answer: {slow}.", facts)


def files(vitals: Vitals) -> Check:
    count = vitals.files_open
    many = count is not None and count > MANY_FILES * vitals.files_limit
    facts = {"open": count, "limit": vitals.files_limit}
    return _graded(many, False, f"{count} of {vitals.files_limit} files are open.", facts)


OF_THE_BOARD: Mapping[str, Callable[[Views, float], Check]] = {
    "server": server,
    "worker": worker,
    "memory": workers_memory,
    "gpu": gpu,
    "keeping": keeping,
}
OF_THE_MACHINE: Mapping[str, Callable[[Vitals], Check]] = {
    "machine_memory": machine_memory,
    "disk": disk,
    "thermal": thermal,
    "lag": lag,
    "files": files,
}


def _graded(degraded: bool, critical: bool, reason: str, facts: dict[str, Any]) -> Check:
    status: Status = "critical" if critical else "degraded" if degraded else "ok"
    return Check(status, "" if status == "ok" else reason, facts)


def _models(views: Views) -> Mapping[str, MachineView]:
    return {actor.removeprefix(board.MODEL): view for actor, view in views.items() if actor.startswith(board.MODEL)}


def _picked(view: MachineView, names: Iterable[str]) -> dict[str, Fact]:
    return {name: view.facts[name] for name in names if view.facts.get(name) is not None}


def _count(fact: Fact) -> int:
    return fact if isinstance(fact, int) else 0
