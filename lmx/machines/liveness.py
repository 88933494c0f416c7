"""Is a worker stuck? Two proofs that do not hang on each other, or it is left alone."""

from typing import Literal

from msgspec import Struct

Condition = Literal["running", "stopped", "gone"]
"""Of a process, as its operating system sees it."""
Proof = Literal["silent", "standing", "unanswered", "stopped", "gone"]
Health = Literal["healthy", "suspect", "stuck"]


class Patience(Struct, frozen=True, kw_only=True):
    """Seconds. A worker that is stopped and goes on 5 s later must not have used them up."""

    tick: float = 1.0
    """Between two looks at a worker."""
    silence: float = 5.0
    """Without a word; a worker beats once a second."""
    stopped: float = 7.0
    """Without a word from a process that the operating system has stopped."""
    answer: float = 3.0
    """For the answer to a probe, beyond what the present step may take."""
    step: float = 10.0
    """That any step may take, however fast it was expected to be."""
    longest_step: float = 3600.0
    """That no step may take, whatever the worker says."""
    late: float = 2.0
    """By which a tick may come too late; beyond that it was the main process that did not run."""


USUAL = Patience()


class Signs(Struct, frozen=True, kw_only=True):
    """What is known of one worker now; times in seconds."""

    silent: float
    """Since its last word."""
    standing: float = 0.0
    """That its engine was at work, awake, on the same step."""
    busy: bool = False
    patience: float = 0.0
    """That the present step may take, as the worker says."""
    unanswered: float | None = None
    """Since a probe was sent; None = none is out."""
    condition: Condition = "running"
    loading: bool = False
    """Or unloading: its engine thread answers no probes."""


class Verdict(Struct, frozen=True):
    health: Health
    proofs: tuple[Proof, ...] = ()


def judge(*, signs: Signs, patience: Patience) -> Verdict:
    """One proof is a suspicion, upon which a probe is to be sent; two are a verdict."""
    proofs = _proofs(signs, patience)
    return Verdict("healthy" if not proofs else "suspect" if len(proofs) == 1 else "stuck", proofs)


def explain(*, signs: Signs, verdict: Verdict) -> str:
    """The proofs as a sentence for people."""
    words: dict[Proof, str] = {
        "silent": f"it said nothing for {signs.silent:.0f} s",
        "standing": f"its engine stood still for {signs.standing:.0f} s",
        "unanswered": f"it did not answer a probe for {signs.unanswered or 0.0:.0f} s",
        "stopped": "the operating system has stopped it",
        "gone": "the operating system does not know it any more",
    }
    return f"The worker was stuck: {', and '.join(words[proof] for proof in verdict.proofs)}."


def _proofs(signs: Signs, patience: Patience) -> tuple[Proof, ...]:
    silent = signs.silent > patience.silence
    found: dict[Proof, bool] = {
        "silent": silent,
        "standing": not signs.loading and signs.standing > _step(signs, patience),
        "unanswered": not signs.loading and _unanswered(signs, patience),
        "stopped": signs.condition == "stopped" and signs.silent > patience.stopped,
        "gone": signs.condition == "gone" and silent,
    }
    return tuple(proof for proof, holds in found.items() if holds)


def _step(signs: Signs, patience: Patience) -> float:
    """What the present step may take."""
    return max(patience.step, min(signs.patience, patience.longest_step))


def _unanswered(signs: Signs, patience: Patience) -> bool:
    """A step may take longer than an answer, and no probe is answered within it."""
    if signs.unanswered is None or signs.unanswered <= patience.answer:
        return False
    return not signs.busy or signs.standing + signs.silent > _step(signs, patience)
