"""From an engine's reports to what a client is told."""

import pytest

from lmx.actors.messages import client, model
from lmx.actors.messages.client import Accepted, Delta, Failed, Finished, Prefilled
from lmx.actors.sequences import Sequences
from lmx.machines.frames import Accepted as Taken
from lmx.machines.frames import Finish, SeqStep
from lmx.machines.types import CacheReport, Cut, TokenLogprob, Usage
from lmx.system import SystemClock
from tests.support.house import ask
from tests.support.inbox import Inbox

A, B = TokenLogprob(1, b"a", None), TokenLogprob(2, b"b", -2.0)
REPORT = CacheReport(2, 3, "short")


def begun() -> tuple[Sequences, Inbox[client.Event]]:
    """Sequence 7 is known to the worker."""
    sequences, inbox = Sequences("m", SystemClock()), Inbox[client.Event]()
    sequences.add(model.Serve(7, ask("x"), inbox))
    sequences.insert(7)
    return sequences, inbox


def test_everything_that_the_worker_tells_reaches_the_client() -> None:
    """Echo, cut, cache report, the prompt's and the text's log-probabilities, and what it cost, in this order."""
    sequences, inbox = begun()
    sequences.accepted(Taken(7, 3, "abc", Cut(1, 20)))
    sequences.stepped(SeqStep(7, prefilled=2, cached=2, prompt_logprobs=(A,), cache=REPORT))
    sequences.stepped(SeqStep(7, prefilled=3, cached=2, prompt_logprobs=(B,), n_tokens=1, text="b", logprobs=(B,)))
    sequences.stepped(SeqStep(7, n_tokens=2, text="bb", logprobs=(B, B)))
    sequences.stepped(SeqStep(7, n_tokens=1, finish=Finish("stop")))
    assert inbox.messages == [
        Accepted(3, "abc", Cut(1, 20), model="m"),
        Prefilled(2, (A,), REPORT),
        Prefilled(3, (B,)),
        Delta("b", (B,)),
        Delta("bb", (B, B)),
        Finished("stop", Usage(3, 4, 2)),
    ]
    assert len(sequences) == 0


def test_a_token_without_text_is_told_for_its_logprob() -> None:
    """A part of a character has no text of its own; without log-probabilities there is nothing to tell."""
    sequences, inbox = begun()
    sequences.stepped(SeqStep(7, n_tokens=1))
    sequences.stepped(SeqStep(7, n_tokens=1, logprobs=(A,)))
    assert inbox.messages == [Delta("", (A,))]


def test_a_prompt_that_is_only_read_finishes() -> None:
    """max_tokens 0: no token ever comes."""
    sequences, inbox = begun()
    sequences.accepted(Taken(7, 3))
    sequences.stepped(SeqStep(7, prefilled=3, prompt_logprobs=(A, B), finish=Finish("length")))
    assert inbox.messages[-1] == Finished("length", Usage(3, 0))


def test_late_words_are_dropped() -> None:
    """Of a sequence that has ended nothing is told any more."""
    sequences, inbox = begun()
    sequences.drop(7, None)
    sequences.accepted(Taken(7, 3))
    sequences.stepped(SeqStep(7, n_tokens=1, text="x", finish=Finish("stop")))
    assert inbox.messages == []


def test_an_error_of_one_sequence_is_its_failure() -> None:
    """Its client is told why."""
    sequences, inbox = begun()
    sequences.stepped(SeqStep(7, finish=Finish("error", "No token is allowed.")))
    (failed,) = inbox.messages
    assert isinstance(failed, Failed)
    assert failed.failure.message == "No token is allowed."


def test_what_the_machine_does_not_know_is_a_crash() -> None:
    """A prompt cannot be read again once tokens came."""
    sequences, _ = begun()
    sequences.stepped(SeqStep(7, n_tokens=1, text="x"))
    with pytest.raises(KeyError):
        sequences.stepped(SeqStep(7, prefilled=1))
