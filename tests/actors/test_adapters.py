"""Other LoRA adapters for a model: it drains, is loaded again, and nothing is lost. The fake backend, and one GGUF."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lmx.actors.messages import admission, caller, client
from lmx.machines.canary import Record
from lmx.machines.types import Adapter, ModelSpec, RefusalKind
from tests.support import models
from tests.support.adapters import adapter
from tests.support.house import OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox

Start = Any
STYLE, OTHER = Adapter("/lora/style.gguf"), Adapter("/lora/other.gguf", 0.5)
READY = ["queued", "loading", "warming", "canary", "ready"]


def answer(sink: Inbox[caller.Reply]) -> caller.Reply:
    return sink.wait_for((caller.Settled, caller.Refused))


def test_what_runs_is_finished_first(start: Start) -> None:
    """A loaded model drains, is unloaded and loaded again; the answer comes when it is ready, from a new worker."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 50))
    running.wait_for(client.Delta)
    pid = house.pid("m")
    assert answer(house.adapt("m", STYLE, OTHER)) == caller.Settled("m", "ready")
    assert isinstance(running.wait_for(OUTCOMES), client.Finished)
    assert text_of(running) == "x" * 50
    assert house.pid("m") != pid
    assert house.path("model:m") == [*READY, "draining", "unloading", "unloaded", *READY]
    assert house.view("model:m").facts["adapters"] == "style.gguf, other.gguf=0.5"


def test_requests_wait_meanwhile(start: Start) -> None:
    """What comes during the drain and the load is answered by the new worker, as during any load."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 50))
    running.wait_for(client.Delta)
    told = house.adapt("m", STYLE)
    house.await_state("model:m", "draining")
    waiting = [house.submit("m", ask(f"n{i}"))[1] for i in range(3)]
    assert answer(told) == caller.Settled("m", "ready")
    for i, sink in enumerate(waiting):
        assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
        assert text_of(sink) == f"n{i}"


def test_an_unloaded_model_only_remembers_them(start: Start) -> None:
    """It is not loaded for their sake; its next load has them, and [] takes them away."""
    house: Actors = start(fake("m"))
    assert answer(house.adapt("m", STYLE)) == caller.Settled("m", "unloaded")
    assert house.path("model:m") == []
    house.load("m")
    assert house.view("model:m").facts["adapters"] == "style.gguf"
    assert answer(house.adapt("m")) == caller.Settled("m", "ready")
    assert house.view("model:m").facts["adapters"] is None


def test_a_load_under_way_begins_again(start: Start) -> None:
    """Who asked for that load, and what waits for it, gets the second one."""
    house: Actors = start(fake("m", "load=0.5"))
    loading: Inbox[caller.Reply] = Inbox()
    house.admission.tell(admission.LoadModel("m", loading))
    _, waiting = house.submit("m", ask("hello"))
    house.until(lambda: house.view("model:m"), lambda view: bool(view.facts.get("pid")))
    assert answer(house.adapt("m", STYLE)) == caller.Settled("m", "ready")
    assert answer(loading) == caller.Settled("m", "ready")
    assert isinstance(waiting.wait_for(OUTCOMES), client.Finished)
    assert house.path("model:m") == ["queued", "loading", "unloading", "unloaded", *READY]


def test_one_more_while_it_drains_is_the_one_that_counts(start: Start) -> None:
    """Both callers hear of the same load, which is that of the later adapters."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 50))
    running.wait_for(client.Delta)
    first, second = house.adapt("m", STYLE), house.adapt("m", OTHER)
    assert answer(first) == answer(second) == caller.Settled("m", "ready")
    assert house.path("model:m").count("ready") == 2
    assert house.view("model:m").facts["adapters"] == "other.gguf=0.5"


def test_a_model_that_is_being_unloaded_stays_unloaded(start: Start) -> None:
    """The admin's unload is not undone by adapters."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 50))
    running.wait_for(client.Delta)
    house.admission.tell(admission.UnloadModel("m", Inbox()))
    assert answer(house.adapt("m", STYLE)) == caller.Settled("m", "unloaded")
    assert house.path("model:m")[-1] == "unloaded"


def test_a_model_that_failed_is_tried_again(start: Start) -> None:
    """Other adapters may be what it needs: it is loaded at once, and the answer says how that went."""
    house: Actors = start(fake("m", "fail_load=no"))
    house.load("m")
    refused = answer(house.adapt("m", STYLE))
    assert isinstance(refused, caller.Refused)
    assert refused.refusal.kind is RefusalKind.MODEL_LOAD_FAILED
    assert house.path("model:m").count("loading") == 2


def test_a_worker_that_dies_comes_back_with_them(start: Start) -> None:
    """They belong to the model, not to the worker; nor does a crash of the actor lose them."""
    house: Actors = start(fake("m"))
    house.adapt("m", STYLE)
    house.load("m")
    os.kill(house.pid("m"), signal.SIGKILL)
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 2)
    house.models["m"].tell("not a message")
    house.await_state("model:m", "unloaded")
    assert house.view("model:m").facts["adapters"] == "style.gguf"


def test_the_canary_of_the_bare_model_is_not_asked_of_an_adapted_one(start: Start) -> None:
    """Adapters change what is said: a recorded answer holds without them only."""
    house: Actors = start(fake("m"), record=Record(question="tweet", token_ids=tuple(b"twist")))
    assert isinstance(house.load("m"), caller.Refused)
    assert answer(house.adapt("m", STYLE)) == caller.Settled("m", "ready")
    assert isinstance(answer(house.adapt("m")), caller.Refused)


def test_nothing_is_adapted_after_the_end(start: Start) -> None:
    """A server that shuts down says so, and an unknown model is named."""
    house: Actors = start(fake("m"))
    unknown = answer(house.adapt("nope", STYLE))
    assert isinstance(unknown, caller.Refused)
    assert unknown.refusal.kind is RefusalKind.MODEL_NOT_FOUND
    house.admission.tell(admission.Drain(Inbox()))
    shut = answer(house.adapt("m", STYLE))
    assert isinstance(shut, caller.Refused)
    assert shut.refusal.kind is RefusalKind.DRAINING


def test_a_gguf_model_speaks_otherwise(start: Start, tmp_path: Path) -> None:
    """A LoRA changes the greedy answer, [] brings the old one back, and a bad file fails the load with its reason."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    spec = ModelSpec(name="m", path=str(models.gguf_file()), backend="llama_cpp", context=256, slots=2)
    house: Actors = start(spec)

    def said() -> str:
        _, sink = house.submit("m", ask("hello world", 12))
        assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
        return text_of(sink)

    plain = said()
    assert answer(house.adapt("m", adapter(tmp_path / "a.gguf"))) == caller.Settled("m", "ready")
    assert said() != plain
    bad = answer(house.adapt("m", adapter(tmp_path / "b.gguf", width=models.DIM // 2)))
    assert isinstance(bad, caller.Refused)
    assert "b.gguf" in bad.refusal.message
    assert answer(house.adapt("m")) == caller.Settled("m", "ready")
    assert said() == plain
