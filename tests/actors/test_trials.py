"""Sequences that outlive their worker: what the next one is told, in which order, and what clients hear of it."""

from collections.abc import Sequence as Many
from typing import Any

from prometheus_client import REGISTRY

from lmx.actors.messages import client, model
from lmx.actors.messages.client import Accepted, Delta, Failed, Finished, Prefilled, Refused
from lmx.actors.sequences import Order, Sequences
from lmx.actors.trials import REPORTS
from lmx.machines import frames
from lmx.machines.frames import Cancel, Embed, Finish, Insert, Resume, SeqStep, Step
from lmx.machines.suspects import fingerprint
from lmx.machines.tasks import Embedding
from lmx.machines.types import (
    CacheReport,
    Failure,
    FailureKind,
    Generation,
    Refusal,
    RefusalKind,
    Text,
    TokenLogprob,
    Usage,
)
from lmx.system import SystemClock
from tests.support.inbox import Inbox

DIED = Failure(FailureKind.WORKER_DIED, "It died.", retry=False)
A = TokenLogprob(97, b"a", -1.0)


def ask(text: str = "x", **fields: Any) -> Generation:
    return Generation(prompt=Text(text), **fields)


class Bench:
    """Sequences and what was told of them; a worker is what the test says."""

    def __init__(self, *generations: Generation | Embedding) -> None:
        self.sequences = Sequences("m", SystemClock())
        self.inboxes: dict[int, Inbox[client.Event]] = {}
        for seq, generation in enumerate(generations, 1):
            self.add(seq, generation)

    def add(self, seq: int, generation: Generation | Embedding) -> None:
        self.inboxes[seq] = Inbox()
        self.sequences.add(model.Serve(seq, generation, self.inboxes[seq]))

    def due(self) -> list[Order]:
        return list(self.sequences.due(newcomers=True))

    def step(self, *seqs: SeqStep) -> bool:
        return self.sequences.hear(Step(1, seqs))

    def write(self, wire: int, text: str, **fields: Any) -> bool:
        return self.step(SeqStep(wire, text, len(text), token_ids=tuple(text.encode()), **fields))

    def begin(self, wire: int) -> None:
        self.sequences.hear(frames.Accepted(wire, 3))
        self.step(SeqStep(wire, prefilled=3, cached=2))

    def die(self, *guilty: str) -> None:
        self.sequences.interrupt(guilty, DIED)

    def acquit(self, wire: int) -> None:
        """Let who is on trial get past the place where the worker died."""
        assert [self.write(wire, ".") for _ in range(REPORTS)] == [False] * (REPORTS - 1) + [True]

    def heard(self, seq: int) -> list[client.Event]:
        return self.inboxes[seq].messages


def wires(orders: Many[Order]) -> list[int]:
    return [order.seq if isinstance(order, Insert | Cancel) else order.job for order in orders]


def test_the_next_worker_is_told_what_was_written() -> None:
    """Tokens, and how much of their text the client has; under an id that no worker has heard."""
    bench = Bench(ask("x"))
    assert bench.due() == [Insert(1, ask("x"))]
    bench.begin(1)
    bench.write(1, "ab")
    bench.step(SeqStep(1, "", 1, token_ids=(195,)))
    bench.die()
    assert bench.due() == [Insert(2, ask("x"), Resume((97, 98, 195), 2))]


def test_the_client_hears_everything_once_and_pays_once() -> None:
    """No second Accepted, Prefilled or text; prompt and cached tokens as at first, completion tokens of both."""
    bench = Bench(ask())
    bench.due()
    bench.begin(1)
    bench.write(1, "ab")
    bench.die()
    bench.due()
    bench.sequences.hear(frames.Accepted(2, 3))
    bench.step(SeqStep(2, prefilled=5, cached=5))
    bench.write(2, "c", finish=Finish("stop"))
    assert bench.heard(1) == [
        Accepted(3, model="m"),
        Prefilled(3),
        Delta("ab"),
        Delta("c"),
        Finished("stop", Usage(3, 3, 2)),
    ]
    assert len(bench.sequences) == 0


def test_a_prompt_that_was_read_in_part_is_told_on() -> None:
    """Its log-probabilities and cache report reach the client once, however often it is read."""
    report, more = CacheReport(0, 4, "first_use"), [TokenLogprob(token, b"", -1.0) for token in range(4)]
    bench = Bench(ask(echo=True, logprobs=0))
    bench.due()
    bench.sequences.hear(frames.Accepted(1, 4, "abcd"))
    bench.step(SeqStep(1, prefilled=2, prompt_logprobs=tuple(more[:2]), cache=report))
    bench.die()
    assert bench.due() == [Insert(2, ask(echo=True, logprobs=0))]
    bench.step(SeqStep(2, prefilled=1, prompt_logprobs=tuple(more[:1]), cache=report))
    bench.step(SeqStep(2, prefilled=4, prompt_logprobs=tuple(more[1:])))
    assert bench.heard(1) == [
        Accepted(4, "abcd", model="m"),
        Prefilled(2, tuple(more[:2]), report),
        Prefilled(4, tuple(more[2:])),
    ]


def test_tokens_whose_log_probabilities_are_owed_are_written_again() -> None:
    """A stop string may have held their text back; what of it was told is not told twice."""
    bench = Bench(ask(logprobs=0, stop=("xy",)))
    bench.due()
    bench.step(SeqStep(1, "a", 1, token_ids=(97,), logprobs=(A,)))
    bench.step(SeqStep(1, " ", 1, token_ids=(120,)))
    bench.die()
    assert bench.due() == [Insert(2, ask(logprobs=0, stop=("xy",)), Resume((97,), 2))]
    bench.step(SeqStep(2, "", 1, token_ids=(121,), finish=Finish("stop")))
    assert bench.heard(1)[-1] == Finished("stop", Usage(0, 2))


def test_late_words_of_an_earlier_turn_are_nobodys() -> None:
    """Frames of a sequence that was taken out of the worker, and of strangers, reach no client."""
    bench = Bench(ask("a"), ask("b"))
    bench.due()
    bench.die()
    (first,) = wires(bench.due())
    strays = REGISTRY.get_sample_value("lmx_stray_reports_total", {"model": "m"}) or 0.0
    for wire in (1, 2, 77):
        bench.write(wire, "stray")
    assert REGISTRY.get_sample_value("lmx_stray_reports_total", {"model": "m"}) == strays + 3
    bench.acquit(first)
    before = bench.heard(1)[:]
    bench.due()
    bench.write(first, "late")
    bench.sequences.hear(frames.Accepted(first, 9))
    assert bench.heard(1) == before
    assert bench.heard(2) == []


def test_suspects_run_alone_one_after_another() -> None:
    """Each until it is past the place of the death; then it makes room, and at last all go on with the newcomers."""
    bench = Bench(ask("a"), ask("b"))
    bench.due()
    bench.die()
    bench.add(3, ask("new"))
    first = bench.due()
    assert first == [Insert(3, ask("a"))]
    assert bench.due() == []
    bench.acquit(3)
    assert bench.due() == [Cancel(3), Insert(4, ask("b"))]
    bench.add(4, ask("newer"))
    assert bench.due() == []
    bench.acquit(4)
    assert bench.due() == [
        Insert(5, ask("a"), Resume((46,) * REPORTS, REPORTS)),
        Insert(6, ask("new")),
        Insert(7, ask("newer")),
    ]
    assert bench.sequences.batch().keys() == {fingerprint(ask(text)) for text in ("a", "b", "new", "newer")}


def test_a_trial_ends_with_its_sequence() -> None:
    """Finished, failed or cancelled by its client: the next one's turn comes."""
    bench = Bench(ask("a"), ask("b"), ask("c"))
    bench.due()
    bench.die()
    assert wires(bench.due()) == [4]
    bench.step(SeqStep(4, finish=Finish("error", "It cannot.")))
    assert wires(bench.due()) == [5]
    bench.sequences.drop(2, None)
    assert wires(bench.due()) == [6]
    bench.write(6, "c", finish=Finish("stop"))
    assert bench.due() == []
    assert len(bench.sequences) == 0


def test_only_who_was_in_the_second_crash_is_guilty() -> None:
    """Those who wait for their trial were not, and go on in the third worker; a twin of the guilty one ends too."""
    bench = Bench(ask("good"), ask("poison"), ask("poison"), ask("fine"))
    bench.due()
    bench.die()
    bench.acquit(*wires(bench.due()))
    bench.due()
    assert bench.sequences.batch() == {fingerprint(ask("poison")): True}
    bench.die(fingerprint(ask("poison")))
    assert [bench.heard(seq)[-1:] for seq in (2, 3)] == [[Failed(DIED)], [Failed(DIED)]]
    (good,) = bench.due()
    assert isinstance(good, Insert)
    assert good.generation == ask("fine")
    bench.acquit(good.seq)
    (again,) = bench.due()
    assert isinstance(again, Insert)
    assert (again.generation, again.resume) == (ask("good"), Resume((46,) * REPORTS, REPORTS))


def test_who_leaves_while_it_waits_is_not_inserted() -> None:
    """Cancelled, as if it had been running."""
    bench = Bench(ask("a"))
    bench.due()
    bench.die()
    dropped = bench.sequences.drop(1, None)
    assert dropped is not None
    assert not dropped.inserted
    assert (bench.due(), bench.heard(1), len(bench.sequences)) == ([], [], 0)


def test_an_embedding_job_is_asked_for_again() -> None:
    """It has nothing to go on from, and its answer is the trial's end."""
    job = Embedding((Text("a"),))
    bench = Bench(job, ask("b"))
    bench.due()
    bench.die()
    assert bench.due() == [Embed(3, job)]
    assert bench.due() == []
    assert bench.sequences.hear(frames.Embedded(3, b"\0\0\x80\x3f", 1, (1,)))
    assert bench.heard(1)[-1] == Finished("stop", Usage(1, 0))
    assert wires(bench.due()) == [4]


def test_what_was_accepted_fails_and_is_not_refused() -> None:
    """When the model is not coming back: for the sequences that had begun, it is the worker's death."""
    bench = Bench(ask("a"))
    bench.due()
    bench.begin(1)
    bench.die()
    bench.add(2, ask("b"))
    refusal = Refusal(RefusalKind.MODEL_QUARANTINED, "No more.", 60.0)
    bench.sequences.refuse_waiting(refusal)
    assert bench.heard(1)[-1] == Failed(Failure(FailureKind.WORKER_DIED, "No more.", retry=False))
    assert bench.heard(2) == [Refused(refusal)]


def test_an_abort_reaches_those_that_wait_for_the_next_worker() -> None:
    """They are running, in their clients' eyes; newcomers are not."""
    bench = Bench(ask("a"))
    bench.due()
    bench.die()
    bench.add(2, ask("b"))
    assert bench.sequences.unfinished() == 1
    bench.sequences.fail(DIED, begun_only=True)
    assert (bench.heard(1), bench.heard(2)) == ([Failed(DIED)], [])


def test_one_that_drains_gets_nobody_new() -> None:
    """But those that had begun go on."""
    bench = Bench(ask("a"))
    bench.due()
    bench.die()
    bench.add(2, ask("b"))
    assert wires(list(bench.sequences.due(newcomers=False))) == [2]
    bench.acquit(2)
    assert list(bench.sequences.due(newcomers=False)) == []
