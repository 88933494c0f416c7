"""Which requests are held to kill workers, by the policy alone."""

from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.suspects import QUARANTINE_SECONDS, REMEMBERED, Suspects, Suspicion, Verdict, fingerprint, judge
from lmx.machines.tasks import Embedding
from lmx.machines.types import Chat, Generation, RefusalKind, Sampling, Text


def ask(text: str, **fields: object) -> Generation:
    return Generation(prompt=Text(text), **fields)  # type: ignore[arg-type]


POISON = ask("poison")
MARK = fingerprint(POISON)


def crash(suspects: Suspects, now: float, **batch: bool) -> tuple[str, ...]:
    verdict = judge(known=suspects.known(batch, now), batch=batch, now=now)
    suspects.learn(verdict.known)
    return verdict.guilty


def test_the_first_crash_convicts_nobody() -> None:
    """A worker may die of anything."""
    assert judge(known={}, batch={"a": False}, now=5.0) == Verdict({"a": Suspicion(1, 1, 5.0)}, ())


def test_the_second_crash_convicts_whoever_was_in_both() -> None:
    """Alone or not; those who are there for the first time go on."""
    suspects = Suspects()
    assert crash(suspects, 1.0, a=False, b=False) == ()
    assert crash(suspects, 2.0, a=True, c=False) == ("a",)
    assert crash(suspects, 3.0, b=True) == ("b",)
    assert suspects.known(("c",), 3.0) == {"c": Suspicion(1, 0, 2.0)}


def test_who_was_continued_once_is_not_continued_again() -> None:
    """Also when what was held against it has been forgotten."""
    verdict = judge(known={}, batch={"a": True, "b": False}, now=1.0)
    assert verdict.guilty == ("a",)
    assert verdict.known["a"].convicted
    assert not verdict.known["b"].convicted


def test_alone_means_that_no_other_request_was_there() -> None:
    """It is told for people: how sure we are."""
    suspects = Suspects()
    crash(suspects, 1.0, a=False)
    crash(suspects, 2.0, a=True)
    crash(suspects, 3.0, b=False, c=False)
    known = suspects.known(("a", "b"), 3.0)
    assert (known["a"].alone, known["b"].alone) == (2, 0)


def test_a_convicted_request_is_refused_for_ten_minutes() -> None:
    """The refusal says for how long; then it may try again, and is judged from the beginning."""
    suspects = Suspects()
    batch = {MARK: False}
    for now in (100.0, 110.0):
        suspects.learn(judge(known=suspects.known(batch, now), batch=batch, now=now).known)
    refusal = suspects.refusal(POISON, 170.0)
    assert refusal is not None
    assert (refusal.kind, refusal.retry_after) == (RefusalKind.REQUEST_QUARANTINED, QUARANTINE_SECONDS - 60)
    assert "540 s" in refusal.message
    assert suspects.refusal(ask("something else"), 170.0) is None
    assert suspects.refusal(POISON, 110.0 + QUARANTINE_SECONDS) is None
    assert len(suspects) == 0


def test_one_crash_is_no_reason_to_refuse_and_is_forgotten() -> None:
    """After ten minutes, or as soon as the request has come to its end."""
    suspects = Suspects()
    batch = {MARK: False}
    suspects.learn(judge(known={}, batch=batch, now=0.0).known)
    assert suspects.refusal(POISON, 1.0) is None
    assert judge(known=suspects.known(batch, QUARANTINE_SECONDS), batch=batch, now=QUARANTINE_SECONDS).guilty == ()
    suspects.learn(judge(known={}, batch=batch, now=0.0).known)
    suspects.acquit(POISON)
    assert len(suspects) == 0


def test_the_same_request_has_the_same_fingerprint() -> None:
    """Whoever sends it; another text, seed or kind of request has another one."""
    messages = ({"role": "user", "content": "x"},)
    same = [Generation(prompt=Chat(messages), sampling=Sampling(seed=1)) for _ in range(2)]
    others: list[Generation | Embedding] = [Generation(prompt=Chat(messages)), ask("x"), Embedding(inputs=(Text("x"),))]
    assert fingerprint(same[0]) == fingerprint(same[1])
    assert len({fingerprint(one) for one in (*same, *others)}) == 4


crashes = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.just(False), min_size=1), max_size=20)


@given(crashes)
def test_nobody_is_in_three_crashes_unconvicted(batches: list[dict[str, bool]]) -> None:
    """Whatever happens, the second crash within ten minutes convicts."""
    suspects, seen = Suspects(), dict.fromkeys("abcdef", 0)
    for now, batch in enumerate(batches):
        guilty = crash(suspects, float(now), **batch)
        for mark in batch:
            seen[mark] += 1
            assert (mark in guilty) == (seen[mark] >= 2)


def test_memory_is_bounded() -> None:
    """The oldest are forgotten first."""
    suspects = Suspects()
    for now in range(REMEMBERED + 10):
        suspects.learn({f"r{now}": Suspicion(1, 1, float(now) / 100)})
    assert len(suspects) == REMEMBERED
    assert suspects.known(("r9", "r10"), 0.0).keys() == {"r10"}
