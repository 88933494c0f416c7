"""A known prompt after each load: a model that cannot answer it is not ready, whatever its worker says."""

from collections.abc import Sequence
from math import isfinite

from msgspec import Struct

from lmx.machines.types import Chat, Embedding, Generation, ModelInfo, Pair, Prompt, Sampling, Text

QUESTION = "What is lmx?"
TEXT = "The quick brown fox"
MAX_TOKENS = 16
TOLERANCE = 0.01


class Record(Struct, frozen=True, kw_only=True):
    """The greedy answer that a model is known to give to `question`."""

    question: str
    token_ids: tuple[int, ...]


class Golden(Struct, frozen=True, kw_only=True):
    """What a model answered when it first passed, under one key (files, backend version, OS build, chip)."""

    answers: tuple[tuple[int, ...], ...]
    """Greedy token ids, one row for each of the canary's prompts."""


def generation(record: Record | None, *, chat: bool) -> Generation:
    """What the model is asked: greedily, and with every logit audited."""
    question = record.question if record else QUESTION
    prompt: Prompt = Chat(({"role": "user", "content": question},)) if chat else Text(TEXT)
    length = len(record.token_ids) if record else MAX_TOKENS
    return Generation(prompt=prompt, max_tokens=length, sampling=Sampling(temperature=0.0), audit=True)


def runs(record: Record | None) -> int:
    """How often the canary sings: without a record it must give the same answer twice."""
    return 1 if record else 2


def judge(record: Record | None, answers: Sequence[tuple[int, ...]]) -> str:
    """What is wrong with the answers (token ids of each run), as a sentence; empty = it passed."""
    if not all(answers):
        return "The canary got an empty answer."
    if record is None:
        return "" if len(set(answers)) == 1 else "The canary got two different greedy answers to one prompt."
    answer, known = answers[0], record.token_ids
    if answer == known:
        return ""
    pairs = zip(answer, known, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(answer), len(known)))
    return f"The canary's answer differs from the recorded one at token {at + 1} of {len(known)}."


def embedding(info: ModelInfo) -> Embedding:
    """What a model that writes no text is asked: the same thing twice."""
    one = Text(TEXT) if info.embedding else Pair(QUESTION, TEXT)
    return Embedding((one, one), score=not info.embedding)


def judge_numbers(vectors: bytes) -> str:
    """What is wrong with the two rows, as a sentence; empty = they passed, equal but for rounding."""
    numbers = memoryview(vectors).cast("f").tolist()
    half = len(numbers) // 2
    if not half or not all(map(isfinite, numbers)):
        return "The canary got no finite numbers."
    pairs = zip(numbers[:half], numbers[half:], strict=True)
    if any(abs(a - b) > TOLERANCE * max(1.0, abs(a)) for a, b in pairs):
        return "The canary got two different answers to one text."
    return ""
