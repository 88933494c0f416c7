"""Alive, started, ready, healthy: four questions, and what each of them depends on."""

import threading
import time
from typing import Any

import msgspec
import pytest

from lmx.actors.messages import journal
from lmx.actors.messages.journal import Board, MachineView
from lmx.actors.messages.vitals import Vitals
from lmx.http import checks
from lmx.http.readiness import Proofs, answered_at, silent_models
from tests.http.conftest import Serve, Served
from tests.support.dummies import DummyJournal, DummyPhysician, view


def model(name: str, state: str, age: float = 0.0, **facts: journal.Fact) -> MachineView:
    """A model that is in this state since `age` seconds."""
    since = time.time() - age
    return MachineView(
        actor=f"model:{name}", machine="Model", state=state, since=since, legal=(), reason="because", facts=facts
    )


SERVING = view("server", "serving", "Server")

# --- alive ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_liveness_depends_on_nothing(serve: Serve, path: str) -> None:
    """A stuck journal is no reason to restart the process; nor is a model (T-K8S-2)."""
    served = await serve()
    served.journal.board = None
    assert (await served.get(path))[0] == 200


# --- started --------------------------------------------------------------------------------------------------------

STARTS = [("starting", 503), ("recovering", 503), ("serving", 200), ("draining", 200), ("unloading", 200)]


@pytest.mark.parametrize(("state", "status"), STARTS)
async def test_started_is_once_and_for_all(serve: Serve, state: str, status: int) -> None:
    """Whatever its models do: 503 until it has recovered, 200 to the end."""
    served = await serve(journal=DummyJournal(view("server", state, "Server"), model("m", "loading")))
    got, headers, body = await served.get("/startupz")
    assert (got, body["started"]) == (status, status == 200)
    assert ("Retry-After" in headers) == (status == 503)


async def test_a_silent_journal_has_not_started(serve: Serve) -> None:
    served = await serve(journal=DummyJournal(), board_seconds=0.01)
    served.gateway.journal.board = None  # type: ignore[attr-defined]
    assert (await served.get("/startupz"))[0] == 503


# --- ready ----------------------------------------------------------------------------------------------------------

READY = [
    ("serving", "ready", 200, ""),
    ("serving", "loading", 503, "No model is ready."),
    ("serving", "quarantined", 503, "No model is ready."),
    ("draining", "ready", 503, "The server is draining."),
    ("starting", "ready", 503, "The server is starting."),
]


@pytest.mark.parametrize(("server", "state", "status", "reason"), READY)
async def test_readiness_is_what_the_machines_say(
    serve: Serve, server: str, state: str, status: int, reason: str
) -> None:
    """Ready: the server serves and a model has sung; else 503 (T-K8S-1, T-K8S-2), what is missing, and Retry-After."""
    served = await serve(journal=DummyJournal(view("server", server, "Server"), model("m", state)))
    got, headers, body = await served.get("/readyz")
    assert ("Retry-After" in headers) == (status == 503)
    assert (got, body) == (
        status, {"ready": status == 200, "reason": reason, "models": {"m": state}, "degraded": []}
    )  # fmt: skip


@pytest.mark.parametrize("stuck", [True, False])
async def test_an_unknown_server_is_not_ready(serve: Serve, stuck: bool) -> None:
    """A journal that does not answer, or knows nothing, is not ready."""
    served = await serve(journal=DummyJournal(), board_seconds=0.01 if stuck else 5)
    if stuck:
        served.gateway.journal.board = None  # type: ignore[attr-defined]
    status, _, body = await served.get("/readyz")
    assert (status, body["ready"]) == (503, False)
    assert ("journal" in body["reason"]) == stuck


async def test_a_fresh_answer_needs_no_proof(serve: Serve) -> None:
    """Traffic is proof enough: nobody is asked anything."""
    asked: list[str] = []
    idle = model("m", "ready", 9000, answered_at=time.time() - 50)
    served = await serve(journal=DummyJournal(SERVING, idle), prove=asked.append)
    assert (await served.get("/readyz"))[0] == 200
    assert asked == []


async def test_an_idle_model_proves_that_it_answers(serve: Serve) -> None:
    """Silent for longer than a minute: it is asked, and its answer is waited for."""
    journal = DummyJournal(SERVING, model("m", "ready", 9000, answered_at=time.time() - 75))

    def sing(name: str) -> None:
        journal.board = Board((SERVING, model(name, "ready", 9000, answered_at=time.time())), ())

    def prove(name: str) -> None:
        threading.Timer(0.3, sing, (name,)).start()

    served = await serve(journal=journal, prove=prove, proof_seconds=20)
    started = time.monotonic()
    assert (await served.get("/readyz"))[0] == 200
    assert 0.3 <= time.monotonic() - started < 10


async def test_a_model_that_owes_a_proof_is_not_ready(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first it is given time; when it has had it, 503 says which one, and for how long it was silent."""
    asked: list[str] = []
    silent = model("m", "ready", 9000, answered_at=time.time() - 75)
    served = await serve(journal=DummyJournal(SERVING, silent), prove=asked.append, proof_seconds=0.2)
    assert (await served.get("/readyz"))[0] == 200
    monkeypatch.setattr("lmx.http.readiness.SILENT_SECONDS", 0.1)
    status, headers, body = await served.get("/readyz")
    assert (status, asked) == (503, ["m", "m"])
    assert body["reason"].startswith("Model m has not answered for 7")
    assert "Retry-After" in headers


async def test_one_that_answers_is_enough(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The silent one is told of; nobody waits for it, as the other one answers."""
    monkeypatch.setattr("lmx.http.readiness.SILENT_SECONDS", 0.0)
    silent, fresh = model("a", "ready", 9000), model("b", "ready", 1)
    served = await serve(journal=DummyJournal(SERVING, silent, fresh), proof_seconds=60)
    status, _, body = await served.get("/readyz")
    assert (status, len(body["degraded"])) == (200, 1)
    assert body["degraded"][0].startswith("Model a has not answered for 9000 s")


def test_a_proof_is_owed_from_the_first_question() -> None:
    """Asked again and again, it is not forgiven; an answer pays it."""
    proofs = Proofs()
    silent = frozenset(["m"])
    assert proofs.owe(silent, 100.0) == frozenset()
    assert proofs.owe(silent, 109.9) == frozenset()
    assert proofs.owe(silent, 110.0) == silent
    assert proofs.owe(frozenset(), 111.0) == frozenset()
    assert proofs.owe(silent, 112.0) == frozenset()


AGES = [(0, False), (59, False), (61, True), (-4, False), (-3600, True)]


@pytest.mark.parametrize(("age", "silent"), AGES)
def test_lately_is_a_minute(age: float, silent: bool) -> None:
    """F47: an answer from the future is one of a clock that was set back, and proves nothing."""
    now = 1_000_000.0
    one = MachineView(actor="model:m", machine="Model", state="ready", since=now - age, legal=())
    assert silent_models(Board((one,), ()), now) == (frozenset(["m"]) if silent else frozenset())


def test_a_model_has_answered_when_it_became_ready() -> None:
    """Its canary sang; later tokens count when they are noted."""
    assert answered_at(view("model:m", "ready"), 9.0) == 1.0
    assert answered_at(view("model:m", "ready", answered_at=5.5), 9.0) == 5.5
    assert answered_at(view("model:m", "ready", answered_at=None), 9.0) == 1.0


def test_a_proof_counts_after_the_clock_was_set_back() -> None:
    """F47: the model became ready an hour from now, and has answered just now: it is not silent for an hour."""
    now = 1_000_000.0
    one = MachineView(actor="model:m", machine="Model", state="ready", since=now + 3600, legal=())
    assert silent_models(Board((one,), ()), now) == frozenset(["m"])
    proven = msgspec.structs.replace(one, facts={"answered_at": now - 1})
    assert silent_models(Board((proven,), ()), now) == frozenset()


async def test_what_is_worse_is_told_while_it_is_ready(serve: Serve) -> None:
    """200, and sentences: the state's damage, memory, safe mode, a slow canary."""
    journal = DummyJournal(
        SERVING,
        model("m", "ready", degraded="The canary took 9 s."),
        view("state", "failing", "StateFile", state_error="The disk is full.", state_recovered=None),
        view("memory", "trimming", "Pressure"),
        view("crash_loop", "safe_mode", "CrashLoop"),
    )
    served = await serve(journal=journal)
    status, _, body = await served.get("/readyz")
    assert status == 200
    assert body["degraded"] == [
        "model:m: The canary took 9 s.", "state: The disk is full.", "Memory is short: trimming.",
        "Safe mode: no model is loaded by itself.",
    ]  # fmt: skip


@pytest.mark.parametrize(("rung", "status"), [("refusing_loads", 200), ("shedding", 503), ("closing", 503)])
async def test_it_is_not_ready_while_no_request_is_taken(serve: Serve, rung: str, status: int) -> None:
    """A model answers its old requests, but new ones are refused for lack of memory: others should be asked."""
    journal = DummyJournal(SERVING, model("m", "ready"), view("memory", rung, "Pressure"))
    got, headers, body = await (await serve(journal=journal)).get("/readyz")
    assert (got, "Retry-After" in headers) == (status, status == 503)
    assert body["reason"] == ("" if status == 200 else f"Memory is short: {rung}. No new requests are taken.")


# --- healthy --------------------------------------------------------------------------------------------------------


async def test_all_is_well(served: Served) -> None:
    """200, one verdict for each part, and its numbers."""
    facts = {"pid": 7, "in_flight": 1, "restarts": 0, "memory_bytes": 20, "device_bytes": 10}
    served.journal.board = Board((SERVING, model("m", "ready", **facts), view("admission", "open", "Admission")), ())
    status, _, body = await served.get("/admin/health")
    assert (status, body["status"]) == (200, "ok")
    found = body["checks"]
    assert set(found) == {
        "server", "worker", "memory", "gpu", "queue", "keeping", "machine_memory", "disk", "thermal", "lag", "files",
        "helper",
    }  # fmt: skip
    assert {check["status"] for check in found.values()} == {"ok"}
    assert found["worker"]["facts"]["m"]["state"] == "ready"
    assert found["worker"]["facts"]["m"]["answered_seconds_ago"] < 10
    assert found["gpu"]["facts"] == {"device_bytes": {"m": 10}}
    assert found["queue"]["facts"]["in_flight"] == 1
    assert found["helper"]["facts"] == {"state": "absent"}


async def test_degraded_is_200_and_critical_503(served: Served) -> None:
    """One of two models is broken: it goes on; both are: it does not. The first cause and the next try are told."""
    broken = model("a", "backoff", restarts=3, first_cause="oom", retry_at=99.0)
    served.journal.board = Board((SERVING, broken, model("b", "ready")), ())
    status, _, body = await served.get("/admin/health")
    assert (status, body["status"]) == (200, "degraded")
    assert body["checks"]["worker"]["reason"] == "Model a is in backoff: because"
    assert body["checks"]["worker"]["facts"]["a"] == {
        "state": "backoff", "restarts": 3, "first_cause": "oom", "retry_at": 99.0
    }  # fmt: skip
    served.journal.board = Board((SERVING, broken, model("b", "quarantined")), ())
    status, _, body = await served.get("/admin/health")
    assert (status, body["status"]) == (503, "critical")


async def test_safe_mode_is_not_ok(served: Served) -> None:
    """Nothing is broken, but no model loads by itself: the deep check says so, and why."""
    loader = view("loader", "idle", "Loader", safe_mode="lmx started 3 times.")
    served.journal.board = Board((SERVING, loader, model("m", "unloaded")), ())
    status, _, body = await served.get("/admin/health")
    assert (status, body["status"]) == (200, "degraded")
    assert body["checks"]["server"]["reason"] == "lmx started 3 times."


async def test_a_quarantine_from_before_the_start_has_its_reason(served: Served) -> None:
    """The machine only knows that it started; the quarantine's own reason is told."""
    barred = model("m", "quarantined", quarantine="The canary lied.")
    served.journal.board = Board((SERVING, barred, model("b", "ready")), ())
    body = (await served.get("/admin/health"))[2]
    assert body["checks"]["worker"]["reason"] == "Model m is in quarantined: The canary lied."


async def test_a_silent_journal_is_critical(serve: Serve) -> None:
    """The rest is told all the same."""
    served = await serve(board_seconds=0.01)
    served.journal.board = None
    status, _, body = await served.get("/admin/health")
    assert (status, body["checks"]["journal"]["status"]) == (503, "critical")
    assert body["checks"]["disk"]["status"] == "ok"


async def test_a_disk_that_hangs_holds_up_nothing(serve: Serve) -> None:
    """Who looks at the machine does not come back: that is told, in time."""
    physician = DummyPhysician()
    physician.vitals = None
    served = await serve(physician=physician, look_seconds=0.05)
    status, _, body = await served.get("/admin/health")
    assert (status, body["checks"]["machine"]["status"]) == (200, "degraded")
    assert "disk" not in body["checks"]


BASE: dict[str, Any] = {
    "memory_total": 1000, "memory_available": 500, "process_bytes": 10, "disk_free": 10**10, "files_open": 10,
    "files_limit": 100, "heat": "normal",
}  # fmt: skip
LOOKS = [
    ({}, "machine_memory", "ok"),
    ({"memory_available": 80}, "machine_memory", "degraded"),
    ({"memory_available": 10}, "machine_memory", "critical"),
    ({"disk_free": 10**9}, "disk", "degraded"),
    ({"disk_free": 10**8}, "disk", "critical"),
    ({"disk_free": None}, "disk", "degraded"),
    ({"state_writable": False}, "disk", "critical"),
    ({"heat": "hot"}, "thermal", "degraded"),
    ({"heat": "unknown"}, "thermal", "ok"),
    ({"lags": {"loop": 0.9}}, "lag", "ok"),
    ({"lags": {"loop": 0.0, "server": 1.0}}, "lag", "degraded"),
    ({"lags": {"loop": 6.0}}, "lag", "critical"),
    ({"files_open": 81}, "files", "degraded"),
    ({"files_open": None}, "files", "ok"),
]


@pytest.mark.parametrize(("seen", "name", "status"), LOOKS)
def test_a_look_at_the_machine_is_judged(seen: dict[str, Any], name: str, status: str) -> None:
    """Each by its own limits; what is not ok has a sentence."""
    health = checks.examine(Board((SERVING,), ()), Vitals(**{**BASE, **seen}), 1.0)
    assert health.checks[name].status == status
    assert bool(health.checks[name].reason) == (status != "ok")
    assert health.status == status


VIEWS = [
    (view("server", "draining", "Server"), "server", "degraded"),
    (view("server", "stopped", "Server"), "server", "critical"),
    (view("memory", "nominal", "Pressure"), "memory", "ok"),
    (view("memory", "refusing_loads", "Pressure"), "memory", "degraded"),
    (view("memory", "shedding", "Pressure"), "memory", "critical"),
    (view("admission", "throttled", "Admission"), "queue", "degraded"),
    (view("admission", "shedding", "Admission"), "queue", "degraded"),
    (view("model:m", "ready", degraded="The canary took 9 s."), "worker", "degraded"),
    (view("model:m", "unloaded"), "worker", "ok"),
    (view("state", "failing", "StateFile", state_error="The disk is full."), "keeping", "degraded"),
]


@pytest.mark.parametrize(("seen", "name", "status"), VIEWS, ids=lambda value: getattr(value, "state", value))
def test_what_the_journal_knows_is_judged(seen: MachineView, name: str, status: str) -> None:
    health = checks.examine(Board((SERVING, seen), ()), Vitals(**BASE), 1.0)
    assert (health.checks[name].status, health.status) == (status, status)


async def test_a_silent_detector_does_not_hold_an_admin_up(serve: Serve) -> None:
    """Whoever ends the safe mode learns within the time for such questions that nobody answers."""
    served = await serve(board_seconds=0.05)
    status, _, body = await served.post("/admin/safe-mode/release", {})
    assert (status, body["error"]["code"]) == (504, "timeout")
