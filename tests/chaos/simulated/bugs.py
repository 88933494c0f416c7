"""Twenty bugs that somebody could write. A simulator that does not find nearly all of them is not worth its time."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from lmx.actors import memory, seat, sequences, serving, trials, turnstile, wish, writing
from lmx.actors import model as model_actor
from lmx.actors.admission import AdmissionActor
from lmx.actors.messages import admission, client
from lmx.machines import frames, liveness, restart, suspects
from lmx.machines import loader as loader_machine
from lmx.machines import memory as ledger
from lmx.machines.model import ModelMachine

Plant = Callable[[pytest.MonkeyPatch], None]


def _nothing(*_: Any, **__: Any) -> None:
    """What a forgotten line does."""


def _instead(patch: pytest.MonkeyPatch, policy: Callable[..., Any], bad: Callable[..., Any], *users: Any) -> None:
    """A policy decides otherwise, also when the journal asks it again."""
    bad.__module__, bad.__qualname__ = policy.__module__, policy.__qualname__
    bad.__wrapped__ = policy  # type: ignore[attr-defined]
    for user in (sys.modules[policy.__module__], *users):
        patch.setattr(user, policy.__name__, bad)


def _without(kind: type, method: str, patch: pytest.MonkeyPatch, *messages: type) -> None:
    """`kind` forgets messages of these types, which come as the first argument."""
    before = getattr(kind, method)

    def after(self: Any, message: Any, *rest: Any) -> Any:
        return None if isinstance(message, messages) else before(self, message, *rest)

    patch.setattr(kind, method, after)


def cancel_is_dropped(patch: pytest.MonkeyPatch) -> None:
    _without(seat.Seat, "send", patch, frames.Cancel)


def place_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(turnstile.Turnstile, "ended", _nothing)


def lease_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    _without(AdmissionActor, "receive", patch, admission.Release)


def restarted_twice(patch: pytest.MonkeyPatch) -> None:
    take = seat.Seat.take

    def twice(self: Any, owner: Any) -> int:
        take(self, owner)
        return take(self, owner)

    patch.setattr(seat.Seat, "take", twice)


def late_words_are_believed(patch: pytest.MonkeyPatch) -> None:
    """Those of a dead worker, and a sequence is called the same in the next one."""
    insert = sequences.Sequences.insert

    def same_name(self: Any, seq: int) -> Any:
        self._latest = min(self._latest, seq - 1)
        return insert(self, seq)

    patch.setattr(seat.Seat, "holds", lambda self, _: self._worker is not None)
    patch.setattr(sequences.Sequences, "insert", same_name)


def outcome_is_told_twice(patch: pytest.MonkeyPatch) -> None:
    end = sequences.Sequences._end

    def twice(self: Any, sequence: Any, event: str, outcome: Any) -> None:
        end(self, sequence, event, outcome)
        if isinstance(outcome, client.Finished):
            sequence.reply_to.tell(outcome)

    patch.setattr(sequences.Sequences, "_end", twice)


def restarts_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restart.RestartBudget, "spent", lambda *_: False)
    patch.setattr(restart.RestartBudget, "take", lambda *_: 0.0)


def quarantined_models_serve(patch: pytest.MonkeyPatch) -> None:
    before = ModelMachine.answer
    patch.setattr(
        ModelMachine,
        "answer",
        lambda self: "wait" if self.current == "quarantined" else before(self),
    )


def memory_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wish.Wish, "give_back", _nothing)


def everything_fits(patch: pytest.MonkeyPatch) -> None:
    _instead(patch, ledger.plan, lambda **_: ledger.Fits())


def continuation_starts_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writing.Writing, "resume", lambda _: None)


def continuation_loses_a_token(patch: pytest.MonkeyPatch) -> None:
    before = writing.Writing.resume

    def shorter(self: Any) -> frames.Resume | None:
        found = before(self)
        return found and frames.Resume(found.token_ids[:-1], found.characters)

    patch.setattr(writing.Writing, "resume", shorter)


def poison_is_never_convicted(patch: pytest.MonkeyPatch) -> None:
    _instead(patch, suspects.judge, lambda known, **_: suspects.Verdict(known, ()), serving)


def stuck_workers_are_healthy(patch: pytest.MonkeyPatch) -> None:
    _instead(patch, liveness.judge, lambda **_: liveness.Verdict("healthy"))


def one_proof_is_enough(patch: pytest.MonkeyPatch) -> None:
    before = liveness.judge

    def hasty(*, signs: liveness.Signs, patience: liveness.Patience) -> liveness.Verdict:
        found = before(signs=signs, patience=liveness.Patience(silence=3.0))
        return liveness.Verdict("stuck", found.proofs) if found.proofs else found

    _instead(patch, before, hasty)


def wrong_stream(patch: pytest.MonkeyPatch) -> None:
    """Now and then a sequence hears what is another one's."""
    before = sequences.Sequences._known

    def other(self: Any, wire: int) -> Any:
        found = before(self, wire)
        return next(iter(self._wired.values())) if found and wire % 17 == 0 else found

    patch.setattr(sequences.Sequences, "_known", other)


def retry_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    before = model_actor.ModelActor.schedule

    def some(self: Any, seconds: float, event: str) -> None:
        if event != "retry":
            before(self, seconds, event)

    patch.setattr(model_actor.ModelActor, "schedule", some)


def shedding_never_ends(patch: pytest.MonkeyPatch) -> None:
    before = memory.MemoryActor.perform

    def forget_relief(self: Any, effect: Any) -> None:
        if getattr(effect, "on", True):
            before(self, effect)

    patch.setattr(memory.MemoryActor, "perform", forget_relief)


def suspects_stay_on_trial(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trials.Trials, "heard", lambda *_: False)
    patch.setattr(trials.Trials, "ended", _nothing)


def loads_that_end_are_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wish.Wish, "loaded", _nothing)
    deadlines = {name: one for name, one in loader_machine.LoaderMachine.deadlines.items() if name != "spawning"}
    patch.setattr(loader_machine.LoaderMachine, "deadlines", deadlines)


BUGS: tuple[Plant, ...] = (
    cancel_is_dropped, place_is_not_given_back, lease_is_not_given_back, restarted_twice, late_words_are_believed,
    outcome_is_told_twice, restarts_have_no_limit, quarantined_models_serve, memory_is_not_given_back, everything_fits,
    continuation_starts_over, continuation_loses_a_token, poison_is_never_convicted, stuck_workers_are_healthy,
    one_proof_is_enough, wrong_stream, retry_is_forgotten, shedding_never_ends, suspects_stay_on_trial,
    loads_that_end_are_not_told,
)  # fmt: skip
