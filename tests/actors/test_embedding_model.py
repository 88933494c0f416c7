"""A model that embeds: its jobs go the way of sequences, and its canary gives numbers."""

import struct
from random import Random
from typing import Any

import pytest

from lmx.actors.base import Address
from lmx.actors.messages import admission, caller, client, model
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.machines import frames
from lmx.machines.tasks import Embedding, Pair
from lmx.machines.types import FailureKind, ModelInfo, ModelSpec, Refusal, RefusalKind, Text
from tests.support import models
from tests.support.house import GB, OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox
from tests.support.scales import Weighs

Start = Any
EMBEDS = ModelInfo(
    backend_version="1",
    context=64,
    slots=0,
    vocab=9,
    weights_bytes=5,
    chat_template=False,
    generates=False,
    embedding=2,
)
NAN = struct.pack("<f", float("nan"))
TWO_TEXTS = Embedding((Text("a"), Text("bb")))


class Numbers:
    """A worker without a process: gives `row` for every input, and acts as a real one does."""

    pid = 0

    def __init__(self, number: int, owner: Ref[model.Message], row: bytes) -> None:
        self._number = number
        self._owner = owner
        self._row = row

    def send(self, command: frames.Command) -> None:
        match command:
            case frames.Load():
                self._say(frames.Loaded(EMBEDS))
            case frames.WarmUp():
                self._say(frames.Warmed())
            case frames.Embed(job, Embedding(inputs)) if inputs == (Text("poison"),):
                self._say(frames.Embedded(job, error="The model gave numbers that are not finite."))
            case frames.Embed(job, Embedding(inputs)) if isinstance(inputs[0], Pair):
                self._say(frames.Rejected(job, Refusal(RefusalKind.INVALID_PROMPT, "This model does not rerank.")))
            case frames.Embed(job, Embedding(inputs)):
                width = len(self._row) // 4
                self._say(frames.Embedded(job, self._row * len(inputs), width, tuple(range(1, len(inputs) + 1))))
            case frames.Insert(seq):
                self._say(frames.Rejected(seq, Refusal(RefusalKind.INVALID_PROMPT, "This is an embedding model.")))
            case frames.Shutdown():
                self.kill()
            case _:
                pass

    def kill(self) -> None:
        self._owner.tell(model.WorkerExited(self._number, "exit", "The worker exited with code 0."))

    def _say(self, report: frames.Report) -> None:
        self._owner.tell(model.Reported(self._number, report))


class Launch:
    def __init__(self, row: bytes = struct.pack("<2f", 0.6, 0.8)) -> None:
        self._row = row

    def launch(self, number: int, owner: Ref[model.Message]) -> Numbers:
        return Numbers(number, owner, self._row)


class Embedder:
    """One model actor in a house."""

    def __init__(self, launch: Launch) -> None:
        self.house = Actors()
        arguments = (self.house.house, fake("e"), Weighs(GB), None, self.house.loader, launch, Random(1))
        self.ref: Address[model.Message] = Address(ModelActor.start(*arguments))
        self.house.models["e"] = self.ref

    def load(self) -> caller.Reply:
        sink: Inbox[caller.Reply] = Inbox()
        self.ref.tell(model.Load(by_admin=True, reply_to=sink))
        return sink.wait_for((caller.Settled, caller.Refused))

    def serve(self, seq: int, asked: Embedding) -> Inbox[client.Event]:
        sink: Inbox[client.Event] = Inbox()
        self.ref.tell(model.Serve(seq, asked, sink))
        sink.wait_for(OUTCOMES)
        return sink


def test_a_job_is_told_and_then_finished() -> None:
    """The numbers as the worker gave them, and what the inputs cost."""
    embedder = Embedder(Launch())
    first, last = embedder.serve(1, TWO_TEXTS).messages
    assert first == client.Embedded(struct.pack("<4f", 0.6, 0.8, 0.6, 0.8), 2, (1, 2), "e")
    assert isinstance(last, client.Finished)
    assert (last.reason, last.usage.prompt_tokens, last.usage.completion_tokens) == ("stop", 3, 0)
    view = embedder.house.view("model:e")
    assert (view.state, view.facts["makes"], view.facts["in_flight"]) == ("ready", "embeddings", 0)
    embedder.house.close()


def test_a_job_that_fails_or_is_refused_says_so() -> None:
    """A refusal for what the model cannot do, a failure for what it did wrong."""
    embedder = Embedder(Launch())
    (failed,) = embedder.serve(1, Embedding((Text("poison"),))).messages
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.ENGINE_ERROR
    (refused,) = embedder.serve(2, Embedding((Pair("a", "b"),), score=True)).messages
    assert isinstance(refused, client.Refused)
    sink: Inbox[client.Event] = Inbox()
    embedder.ref.tell(model.Serve(3, ask("write"), sink))
    assert isinstance(sink.wait_for(OUTCOMES), client.Refused)
    embedder.house.close()


@pytest.mark.parametrize("kind", ["bert", "llama", "reranker"])
def test_a_real_worker_embeds(start: Start, kind: str) -> None:
    """From the canary to the numbers: of an encoder, of a model that also writes text, and of one that scores pairs."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = str(models.gguf_file(kind))
    house: Actors = start(ModelSpec(name="e", path=path, backend="llama_cpp", context=256, slots=2, threads=1))
    scores = kind == "reranker"
    texts = (Pair("a", "b"), Pair("a", "c")) if scores else (Text("hello"), Text("world"))
    sink: Inbox[client.Event] = Inbox()
    house.admission.tell(admission.Submit("r", "e", "me", Embedding(texts, score=scores), sink))
    assert isinstance(sink.wait_for(OUTCOMES, seconds=60), client.Finished)
    numbers = sink.messages[0]
    assert isinstance(numbers, client.Embedded)
    assert numbers.width == (1 if scores else models.DIM)
    assert len(numbers.vectors) == 4 * 2 * numbers.width
    written = house.submit("e", ask("x", max_tokens=2))[1].wait_for(OUTCOMES)
    assert isinstance(written, client.Finished if kind == "llama" else client.Refused)
    house.until(lambda: house.view("model:e"), lambda view: bool(view.facts.get("memory_bytes")))


@pytest.mark.parametrize("row", [NAN, b""], ids=["nan", "nothing"])
def test_the_canary_wants_finite_numbers(row: bytes) -> None:
    """A model that gives none is quarantined with the reason."""
    embedder = Embedder(Launch(row))
    refused = embedder.load()
    assert isinstance(refused, caller.Refused)
    assert "no finite numbers" in refused.refusal.message
    embedder.house.close()
