"""The canary's verdict."""

from struct import pack

import pytest
from msgspec import json
from msgspec.structs import replace

from lmx.machines.canary import (
    MARGIN,
    SURE,
    Golden,
    Heard,
    Record,
    Verdict,
    beginnings,
    clear,
    judge,
    key,
    lead,
    song,
)
from lmx.machines.tasks import Embedding, Pair
from lmx.machines.types import Adapter, Chat, Generation, ModelInfo, Text

RECORD = Record(question="Who are you?", token_ids=(5, 6, 7))
INFO = ModelInfo(backend_version="1", context=99, slots=2, vocab=9, weights_bytes=0, chat_template=True, digest="files")
TRUE = Heard(text="true", token_ids=(1,))


def heard(*ids: int, leads: tuple[float, ...] = ()) -> Heard:
    """An answer whose every token leads clearly, unless `leads` says otherwise."""
    return Heard(token_ids=ids, leads=leads or (2.0,) * len(ids), reason="length")


FIRST, SECOND = heard(1, 2, 3), heard(4, 5)
GOOD = (FIRST, SECOND, FIRST, SECOND, TRUE)
GOLDEN = Golden(answers=((1, 2, 3), (4, 5)), seconds=2.0)


def verdict(
    *answers: Heard, record: Record | None = None, golden: Golden | None = GOLDEN, seconds: float = 2.0
) -> Verdict:
    return judge(record=record, golden=golden, heard=answers, seconds=seconds)


def test_good_answers_pass() -> None:
    """What it sang before, the same beside others, and JSON where that was asked for."""
    assert verdict(*GOOD) == Verdict()


@pytest.mark.parametrize(
    ("place", "answer", "words"),
    [
        (0, heard(1, 9, 3), "answer 1 differs at token 2"),
        (0, heard(1, 2), "answer 1 differs at token 3"),
        (1, heard(9, 5), "answer 2 differs at token 1"),
        (1, Heard(), "empty answer"),
        (0, Heard(reason="error", error="Not finite."), "Not finite."),
        (1, Heard(reason="refused", error="Too long."), "Too long."),
        (2, heard(1, 2, 5), "prompt 1, alone and beside others, from token 3 on"),
        (3, heard(1, 2, 3), "prompt 2, alone and beside others, from token 1 on"),
        (3, Heard(reason="error", error="Not finite."), "Not finite."),
        (4, Heard(text="maybe", token_ids=(1,)), "got 'maybe'"),
        (4, Heard(text="tru", token_ids=(1,)), "got 'tru'"),
        (4, Heard(text="yes", token_ids=(1,), reason="length"), "got 'yes'"),
        (4, Heard(reason="error", error="No token."), "asked for JSON and got an error: No token."),
    ],
)
def test_any_bad_answer_fails_and_the_sentence_says_which(place: int, answer: Heard, words: str) -> None:
    """One bad answer among good ones is enough."""
    answers = [*GOOD]
    answers[place] = answer
    assert words in verdict(*answers).error


@pytest.mark.parametrize(
    "answer",
    [
        Heard(text=" false", token_ids=(1,)),
        Heard(text="tru", token_ids=(1,), reason="length"),
        Heard(text="", token_ids=(1,), reason="length"),
        Heard(reason="refused", error="This model cannot be constrained."),
    ],
)
def test_json_may_be_cut_off_or_refused_but_not_be_wrong(answer: Heard) -> None:
    """A valid beginning is no fault of JSON, and a model that honestly refuses constraints is served."""
    assert verdict(*GOOD[:4], answer) == Verdict()


def test_what_was_recorded_for_all_machines_is_compared_to_the_last_token() -> None:
    """With a record even a token that hardly leads must be its own: it belongs to a model that is sure."""
    known = heard(5, 6, 7)
    rest = (SECOND, known, SECOND, TRUE)
    assert verdict(known, *rest, record=RECORD, golden=None).error == ""
    close = heard(5, 9, 7, leads=(2.0, 0.01, 2.0))
    assert "token 2 of 3" in verdict(close, *rest, record=RECORD, golden=None).error
    assert "token 3 of 3" in verdict(heard(5, 6), *rest, record=RECORD, golden=None).error


def test_noise_never_quarantines() -> None:
    """Where two tokens are about equally likely, another batch, or another day, may choose the other one."""
    close = heard(1, 2, 3, leads=(2.0, MARGIN - 0.01, 2.0))
    other = heard(1, 9, 8, leads=(2.0, 0.01, 2.0))
    fresh = verdict(close, SECOND, other, SECOND, TRUE, golden=None)
    assert fresh.error == ""
    assert fresh.golden is not None
    assert fresh.golden.answers == ((1,), (4, 5))
    assert verdict(other, SECOND, close, SECOND, TRUE, golden=fresh.golden) == Verdict()


def test_a_model_without_an_opinion_is_not_what_it_was() -> None:
    """Its golden answers were clear: that the wrong ones are not, is no excuse."""
    flat = heard(9, 9, 9, leads=(0.0, 0.0, 0.0))
    assert "answer 1 differs at token 1" in verdict(flat, SECOND, flat, SECOND, TRUE).error


def test_the_first_good_answers_are_kept() -> None:
    """Only from a whole song, and only if there were none."""
    assert verdict(*GOOD, golden=None, seconds=3.5).golden == replace(GOLDEN, seconds=3.5)
    assert verdict(*GOOD[:4], Heard(text="no", token_ids=(1,)), golden=None).golden is None
    assert verdict(FIRST, golden=None) == Verdict()
    assert "answer 1 differs" in verdict(SECOND).error


@pytest.mark.parametrize(("seconds", "usual", "slow"), [(19.9, 2.0, False), (20.0, 2.0, True), (0.9, 0.01, False)])
def test_a_slow_canary_passes_and_is_noted(seconds: float, usual: float, slow: bool) -> None:
    """Ten times its first time is degraded, but below a second nobody minds."""
    found = verdict(*GOOD, golden=replace(GOLDEN, seconds=usual), seconds=seconds)
    assert found.error == ""
    assert bool(found.degraded) == slow


def test_a_song_is_two_prompts_alone_then_together_with_json() -> None:
    """Greedy, audited, with leads; the record's question where there is one; brief = the first prompt only."""
    first, second, third = song(RECORD, INFO)
    assert (len(first), len(second), len(third)) == (1, 1, 3)
    assert third[:2] == first + second
    one, json_like = first[0], third[2]
    assert isinstance(one, Generation)
    assert isinstance(json_like, Generation)
    assert (one.sampling.temperature, one.audit, one.logprobs, one.max_tokens) == (0, True, 2, 3)
    assert one.prompt == Chat(({"role": "user", "content": "Who are you?"},))
    assert json_like.constraint is not None
    assert json_like.constraint.text == '{"type":"boolean"}'
    assert song(RECORD, INFO, brief=True) == (first,)
    assert all(
        isinstance(asked, Generation) and isinstance(asked.prompt, Text)
        for stage in song(None, replace(INFO, chat_template=False))
        for asked in stage
    )


def test_a_model_that_writes_no_text_gives_the_same_numbers_twice() -> None:
    """Embeddings where it makes them, else scores; rounding is forgiven, NaN and silence are not."""
    ((ranks,),) = song(None, replace(INFO, generates=False, scores=True), brief=True)
    assert isinstance(ranks, Embedding)
    assert ranks.score
    assert isinstance(ranks.inputs[0], Pair)
    ((embeds,),) = song(None, replace(INFO, generates=False, embedding=3))
    assert isinstance(embeds, Embedding)
    assert not embeds.score
    assert embeds.inputs[0] == embeds.inputs[1]

    def numbers(vectors: bytes) -> Verdict:
        return verdict(Heard(vectors=vectors, reason="numbers"), golden=None)

    assert numbers(pack("<4f", 0.6, 0.8, 0.6001, 0.8)).golden == Golden(answers=((),), seconds=2.0)
    assert "two different answers" in numbers(pack("<4f", 0.6, 0.8, 0.8, 0.6)).error
    assert "no finite numbers" in numbers(pack("<2f", float("nan"), 1.0)).error
    assert "no finite numbers" in numbers(b"").error
    assert verdict(Heard(reason="error", error="It broke."), golden=None).error == "The canary got an error: It broke."


def test_long_rows_of_numbers_are_cut_alike() -> None:
    """What is written down of a verdict is small, and still holds both rows."""
    rows = pack("<9000f", *range(4500), *range(4500))
    cut = beginnings(rows)
    assert len(json.encode(Heard(vectors=cut))) < 64 * 1024
    assert cut[: len(cut) // 2] == cut[len(cut) // 2 :]
    assert beginnings(pack("<4f", 1, 2, 3, 4)) == pack("<4f", 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("logprobs", "ahead"),
    [([-0.1, -0.7], 0.6), ([-1.0, -1.0], 0.0), ([0.0, float("-inf")], SURE), ([-0.1], SURE), ([], SURE)],
)
def test_a_lead_is_always_a_finite_number(logprobs: list[float], ahead: float) -> None:
    """Else it could not be written down."""
    assert lead(logprobs) == ahead


def test_the_token_that_ends_a_text_has_no_lead_and_is_not_compared() -> None:
    """It has no log-probability."""
    assert clear(Heard(token_ids=(1, 2, 9), leads=(2.0, 2.0))) == (1, 2)


def test_the_key_depends_on_all_that_may_change_an_answer() -> None:
    """Files, version, settings, adapters and the machine."""

    def made(info: ModelInfo = INFO, settings: str = "f16", adapters: tuple[Adapter, ...] = (), host: str = "h") -> str:
        return key(info=info, settings=(settings,), adapters=adapters, host=host)

    keys = {
        made(),
        made(replace(INFO, digest="other")),
        made(replace(INFO, backend_version="2")),
        made(settings="q8_0"),
        made(adapters=(Adapter("a"),)),
        made(adapters=(Adapter("a", 0.5),)),
        made(host="i"),
    }
    assert len(keys) == 7
    assert made() in keys
