"""Workers die in mid-stream: what was asked for is answered all the same, and who kills workers is found out."""

import os
import signal
import threading
import time
from itertools import count
from random import Random
from typing import Any

import psutil

from lmx.actors.base import Address
from lmx.actors.messages import caller, client, model
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.actors.ports import Worker
from lmx.machines import frames
from lmx.machines.liveness import Condition
from lmx.machines.tasks import Embedding
from lmx.machines.types import Constraint, Failure, FailureKind, Generation, RefusalKind, Sampling, Text
from lmx.system import ProcessLauncher
from tests.support.house import GB, OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox
from tests.support.scales import Weighs

Start = Any
_seqs = count(1)


def serve(house: Actors, generation: Generation | Embedding, name: str = "m") -> tuple[int, Inbox[client.Event]]:
    """Past admission, which has limits of its own."""
    seq, sink = next(_seqs), Inbox[client.Event]()
    house.models[name].tell(model.Serve(seq, generation, sink))
    return seq, sink


def loaded(house: Actors, name: str = "m") -> int:
    house.models[name].tell(model.Load())
    house.await_state(f"model:{name}", "ready")
    return house.pid(name)


def kill(house: Actors, *streams: Inbox[client.Event]) -> float:
    """The worker, once all streams have some text; when that was."""
    for stream in streams:
        stream.wait_for(client.Delta)
    os.kill(house.pid("m"), signal.SIGKILL)
    return time.monotonic()


def restarts(house: Actors) -> int:
    return house.path("model:m").count("backoff")


def test_a_stream_outlives_its_worker(start: Start) -> None:
    """Text, end and usage are those of an undisturbed run; nothing is said twice."""
    house = start(fake("m", "step=0.005"))
    loaded(house)
    text = "".join(f"{number} né 日本 " for number in range(60))
    _, stream = serve(house, ask(text))
    kill(house, stream)
    finished = stream.wait_for(OUTCOMES)
    assert isinstance(finished, client.Finished)
    assert text_of(stream) == text
    size = len(text.encode())
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (size, size + 1)
    assert [type(event) for event in stream.messages].count(client.Accepted) == 1
    assert restarts(house) == 1


def test_all_of_a_batch_go_on(start: Start) -> None:
    """Choices of one request, other requests, one with a schema, one that was only waiting: all are answered."""
    house = start(fake("m", "step=0.005", slots=3))
    loaded(house)
    texts = [f"{name} " * 40 for name in ("a", "b", "a")]
    streams = [serve(house, ask(text))[1] for text in texts]
    pattern = Generation(prompt=Text("x"), constraint=Constraint("regex", "[a-z ]{100}"), sampling=Sampling(seed=1))
    _, constrained = serve(house, pattern)
    kill(house, *streams)
    for text, stream in zip(texts, streams, strict=True):
        stream.wait_for(client.Finished)
        assert text_of(stream) == text
    constrained.wait_for(client.Finished)
    assert len(text_of(constrained)) == 100


def test_log_probabilities_are_as_many_as_tokens(start: Start) -> None:
    """Also with text that a stop string holds back at the break."""
    house = start(fake("m", "step=0.005"))
    loaded(house)
    text = "twi twi two " * 20
    _, stream = serve(house, Generation(prompt=Text(text), logprobs=0, stop=("twist",)))
    kill(house, stream)
    stream.wait_for(client.Finished)
    told = b"".join(one.text for event in stream.messages if isinstance(event, client.Delta) for one in event.logprobs)
    assert text_of(stream) == told.decode() == text


def test_a_sequence_is_continued_once(start: Start) -> None:
    """The second death fails it within a second, for good, and the same request is refused for a while."""
    house = start(fake("m", "step=0.01"))
    loaded(house)
    _, stream = serve(house, ask("x" * 3000))
    kill(house, stream)
    before = len(stream.wait(bool))
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 2)
    stream.wait(lambda events: len(events) > before)
    died = kill(house, stream)
    failed = stream.wait_for(OUTCOMES)
    assert time.monotonic() - died < 1.0
    assert isinstance(failed, client.Failed)
    assert (failed.failure.kind, failed.failure.retry) == (FailureKind.WORKER_DIED, False)
    assert "SIGKILL" in failed.failure.message
    refused = serve(house, ask("x" * 3000))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.REQUEST_QUARANTINED
    assert isinstance(serve(house, ask("y"))[1].wait_for(OUTCOMES), client.Finished)


def test_the_poison_is_found_and_the_innocent_survive(start: Start) -> None:
    """One request kills its worker whenever it writes: two deaths, one failure, all others are answered."""
    house = start(fake("m", "step=0.005; poison=arsenic"))
    loaded(house)
    texts = [f"innocent {number} " * 20 for number in range(4)]
    streams = [serve(house, ask(text))[1] for text in texts]
    for stream in streams:
        stream.wait_for(client.Delta)
    _, deadly = serve(house, ask("a bottle of arsenic"))
    failed = deadly.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert not failed.failure.retry
    for text, stream in zip(texts, streams, strict=True):
        assert isinstance(stream.wait_for(OUTCOMES), client.Finished)
        assert text_of(stream) == text
    again = [serve(house, ask("a bottle of arsenic"))[1].wait_for(OUTCOMES) for _ in range(3)]
    assert all(isinstance(event, client.Refused) for event in again)
    assert restarts(house) == 2
    assert house.view("model:m").state == "ready"


def test_who_leaves_before_the_restart_is_gone(start: Start) -> None:
    """Its sequence is cancelled, and the next worker never hears of it."""
    house = start(fake("m", "step=0.005; load=0.5"))
    loaded(house)
    seq, stream = serve(house, ask("x" * 3000))
    kill(house, stream)
    house.await_state("model:m", "loading")
    house.models["m"].tell(model.Cancel(seq))
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 2)
    house.until(lambda: house.view("model:m").facts["in_flight"], lambda known: known == 0)
    assert not any(isinstance(event, OUTCOMES) for event in stream.messages)


def test_a_deadline_goes_on_while_the_model_restarts(start: Start) -> None:
    """An abort reaches who waits for the next worker."""
    house = start(fake("m", "step=0.005; load=0.5"))
    loaded(house)
    seq, stream = serve(house, ask("x" * 3000))
    kill(house, stream)
    house.await_state("model:m", "loading")
    late = Failure(FailureKind.TIMEOUT, "Too late.")
    house.models["m"].tell(model.Abort(seq, late))
    assert stream.wait_for(OUTCOMES) == client.Failed(late)


def test_an_admins_unload_aborts_who_waits_for_the_restart(start: Start) -> None:
    """It was running in its client's eyes: it fails, and does not bring the model up again."""
    house = start(fake("m", "step=0.005; load=1"))
    house.models["m"].tell(model.Load())
    house.await_state("model:m", "ready")
    _, stream = serve(house, ask("x" * 3000))
    kill(house, stream)
    house.await_state("model:m", "loading")
    told: Inbox[caller.Reply] = Inbox()
    house.models["m"].tell(model.Unload(told))
    failed = stream.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.ABORTED
    assert told.wait_for((caller.Settled, caller.Refused)) == caller.Settled("m", "unloaded")


class Once:
    """Launches one real worker; the next one cannot load the files any more."""

    def launch(self, number: int, owner: Ref[model.Message]) -> Worker:
        return ProcessLauncher().launch(number, owner) if number == 1 else Fails(number, owner)


class Fails:
    """A worker without a process."""

    pid = 0

    def __init__(self, number: int, owner: Ref[model.Message]) -> None:
        self._number = number
        self._owner = owner

    def send(self, command: frames.Command) -> None:
        if isinstance(command, frames.Load):
            self._owner.tell(model.Reported(self._number, frames.LoadFailed("The file is gone.")))

    def kill(self) -> None:
        self._owner.tell(model.WorkerExited(self._number, "exit", "The worker exited with code 65."))

    def condition(self) -> Condition:
        return "running"


def test_a_model_that_does_not_come_back_fails_them_at_once(start: Start) -> None:
    """Their clients get an error that says why, not a stream that hangs."""
    house: Actors = start(fake("m", "step=0.005"))
    arguments = (house.house, fake("m", "step=0.005"), Weighs(GB), None, house.loader, Once(), Random(1))
    assert house.models["m"].stop(5.0)
    house.models["m"] = Address(ModelActor.start(*arguments))
    loaded(house)
    _, stream = serve(house, ask("x" * 3000))
    kill(house, stream)
    failed = stream.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure == Failure(FailureKind.WORKER_DIED, "The file is gone.", retry=False)


def test_deaths_while_loading_blame_nobody(start: Start) -> None:
    """A worker that dies before it serves says nothing about the requests that wait for it."""
    house = start(fake("m", "step=0.005; load=0.3"))
    loaded(house)
    _, stream = serve(house, ask("x" * 100))
    kill(house, stream)
    house.until(lambda: house.view("model:m"), lambda view: view.state == "loading" and bool(view.facts["pid"]))
    psutil.Process(house.pid("m")).kill()
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)
    assert text_of(stream) == "x" * 100


def test_an_embedding_is_asked_for_again(start: Start) -> None:
    """A job whose worker died is done by the next one; it was never its client's business."""
    house = start(fake("m", "step=0.005; load=0.2"))
    pid = loaded(house)
    os.kill(pid, signal.SIGSTOP)
    _, sink = serve(house, Embedding((Text("abc"), Text("d"))))
    house.until(lambda: house.view("model:m").facts["in_flight"], lambda running: running == 1)
    os.kill(pid, signal.SIGKILL)
    finished = sink.wait_for(OUTCOMES)
    assert isinstance(finished, client.Finished)
    assert finished.usage.prompt_tokens == 4
    assert sum(isinstance(event, client.Embedded) for event in sink.messages) == 1


def test_nobody_is_told_two_outcomes(start: Start) -> None:
    """However often workers die under a crowd of requests, each hears exactly one."""
    house = start(fake("m", "step=0.002", slots=4))
    loaded(house)
    streams = [serve(house, ask(f"{number} " * 50))[1] for number in range(20)]
    done = threading.Event()

    def murder() -> None:
        for _ in range(3):
            if done.wait(0.4):
                return
            pid = house.view("model:m").facts.get("pid")
            if isinstance(pid, int) and psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)

    murderer = threading.Thread(target=murder)
    murderer.start()
    for stream in streams:
        stream.wait_for(OUTCOMES, 60.0)
    done.set()
    murderer.join()
    for number, stream in enumerate(streams):
        outcomes = [event for event in stream.messages if isinstance(event, OUTCOMES)]
        assert len(outcomes) == 1
        assert (f"{number} " * 50).startswith(text_of(stream))
        if isinstance(outcomes[0], client.Finished):
            assert text_of(stream) == f"{number} " * 50


def test_what_ran_out_of_memory_goes_on_in_a_smaller_worker(start: Start) -> None:
    """The next worker has a slot less; those whose worker had no fault of its own lose nothing."""
    house = start(fake("m", "step=0.005", slots=3))
    pid = loaded(house)
    assert house.view("model:m").facts["slots"] == 3
    text = "x" * 200
    _, stream = serve(house, ask(text))
    stream.wait_for(client.Delta)
    house.models["m"].tell(model.WorkerExited(1, "oom", "The worker was killed: the machine ran out of memory."))
    os.kill(pid, signal.SIGKILL)
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)
    assert text_of(stream) == text
    assert house.view("model:m").facts["slots"] == 2
