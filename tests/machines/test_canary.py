"""The canary's verdict."""

from struct import pack

from msgspec.structs import replace

from lmx.machines.canary import Record, embedding, generation, judge, judge_numbers, runs
from lmx.machines.types import Chat, ModelInfo, Pair, Text

RECORD = Record(question="What is lmx?", token_ids=(5, 6, 7))


def test_the_recorded_answer_passes_and_any_other_fails_where_it_differs() -> None:
    """With a record, one run must give exactly its tokens; the sentence says where it went wrong."""
    assert runs(RECORD) == 1
    assert judge(RECORD, [(5, 6, 7)]) == ""
    assert "token 2 of 3" in judge(RECORD, [(5, 9, 7)])
    assert "token 3 of 3" in judge(RECORD, [(5, 6)])


def test_without_a_record_it_must_be_reproducible_and_not_empty() -> None:
    """Two greedy runs must agree, and each must say something."""
    assert runs(None) == 2
    assert judge(None, [(1, 2), (1, 2)]) == ""
    assert "different" in judge(None, [(1, 2), (1, 3)])
    assert "empty" in judge(None, [(), ()])


def test_it_is_greedy_audited_and_fits_the_kind_of_model() -> None:
    """It draws nothing at random, audits logits, and does not chat with a model that has no template."""
    asked = generation(RECORD, chat=True)
    assert asked.sampling.temperature == 0
    assert asked.audit
    assert asked.max_tokens == 3
    assert asked.prompt == Chat(({"role": "user", "content": "What is lmx?"},))
    assert isinstance(generation(None, chat=False).prompt, Text)


def test_a_model_that_writes_no_text_gives_the_same_numbers_twice() -> None:
    """Embeddings where it makes them, else scores; rounding is forgiven, NaN and silence are not."""
    info = ModelInfo(backend_version="1", context=9, slots=0, vocab=9, weights_bytes=0, chat_template=False)
    ranks = embedding(replace(info, scores=True))
    assert ranks.score
    assert isinstance(ranks.inputs[0], Pair)
    embeds = embedding(replace(info, embedding=3))
    assert not embeds.score
    assert embeds.inputs[0] == embeds.inputs[1] == Text("The quick brown fox")
    assert judge_numbers(pack("<4f", 0.6, 0.8, 0.6001, 0.8)) == ""
    assert "two different answers" in judge_numbers(pack("<4f", 0.6, 0.8, 0.8, 0.6))
    assert "no finite numbers" in judge_numbers(pack("<2f", float("nan"), 1.0))
    assert "no finite numbers" in judge_numbers(b"")
