"""What a model is asked after each load and when it has rested, and what is wrong with its answers."""

from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from typing import Literal

from msgspec import Struct

from lmx.machines.tasks import Embedding, Pair
from lmx.machines.types import Adapter, Chat, Constraint, Generation, ModelInfo, Prompt, Sampling, Text

QUESTIONS = ("What is lmx?", "Count from one to ten, in words.")
TEXTS = ("The quick brown fox", "one, two, three, four,")
CLAIM = ("Is the sky blue? Answer true or false.", "The sky is blue: ")
SCHEMA = '{"type":"boolean"}'
MAX_TOKENS = 8
SMOKE_TOKENS = 16
MARGIN = 0.5
"""Nats by which a token must lead, or the rounding of another batch size may choose another one."""
SURE = 99.0
"""A lead is not told beyond this, so that it is always a finite number."""
TOLERANCE = 0.01
MOST_NUMBERS = 4 * 2048
"""Bytes of a row of numbers that are looked at."""
SLOW_FACTOR = 10.0
SLOW_SECONDS = 1.0
"""A canary that is faster than this is never called slow."""


class Record(Struct, frozen=True, kw_only=True):
    """The greedy answer that a model is known to give to `question`, everywhere."""

    question: str
    token_ids: tuple[int, ...]


class Golden(Struct, frozen=True, kw_only=True):
    """What a model answered when it first passed, under one key (files, backend version, OS build, chip)."""

    answers: tuple[tuple[int, ...], ...]
    """Greedy token ids, one row for each of the canary's prompts: those before the first one that was not clear."""
    seconds: float = 0.0
    """How long the canary took then."""


class Heard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer."""

    token_ids: tuple[int, ...] = ()
    leads: tuple[float, ...] = ()
    """Nats between the best token and the next best one, for each token but the one that ends a text."""
    text: str = ""
    vectors: bytes = b""
    """Instead of tokens, from a model that writes none: the beginnings of both rows."""
    reason: Literal["stop", "length", "numbers", "refused", "error"] = "stop"
    error: str = ""
    """A sentence, where the reason is one of the last two."""


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a canary."""

    error: str = ""
    """What is wrong, as a sentence; empty = it passed."""
    golden: Golden | None = None
    """To be kept: the first good answers."""
    degraded: str = ""
    """What is not as it should be, although it passed."""


Asked = tuple[tuple[Generation | Embedding, ...], ...]


def song(record: Record | None, info: ModelInfo, *, brief: bool = False) -> Asked:
    """What is asked, in stages: two prompts, each alone; then both beside each other and beside one for JSON.

    `brief`: only the first prompt, which shows that the model answers. A model that writes no text gives numbers.
    """
    if not info.generates:
        return ((embedding(info),),)
    first, second = _generation(0, record, info), _generation(1, None, info)
    return ((first,),) if brief else ((first,), (second,), (first, second, smoke(info)))


def _generation(number: int, record: Record | None, info: ModelInfo) -> Generation:
    """Greedily, with every logit audited, and with the lead of every token."""
    question = record.question if record else QUESTIONS[number]
    prompt = _prompt(question, TEXTS[number], info)
    length = len(record.token_ids) if record else MAX_TOKENS
    return Generation(prompt=prompt, max_tokens=length, sampling=Sampling(temperature=0.0), logprobs=2, audit=True)


def smoke(info: ModelInfo) -> Generation:
    """Something that every constrained answer to is short."""
    return Generation(
        prompt=_prompt(*CLAIM, info),
        max_tokens=SMOKE_TOKENS,
        sampling=Sampling(temperature=0.0),
        constraint=Constraint("json_schema", SCHEMA),
        audit=True,
    )


def _prompt(question: str, text: str, info: ModelInfo) -> Prompt:
    return Chat(({"role": "user", "content": question},)) if info.chat_template else Text(text)


def embedding(info: ModelInfo) -> Embedding:
    """What a model that writes no text is asked: the same thing twice."""
    one = Text(TEXTS[0]) if info.embedding else Pair(QUESTIONS[0], TEXTS[0])
    return Embedding((one, one), score=not info.embedding)


def key(*, info: ModelInfo, settings: Sequence[str], adapters: Sequence[Adapter], host: str) -> str:
    """Under which golden answers are kept: another one where other answers would be no fault.

    `settings` are those that change numbers; `host` names lmx's version, the OS build and the chip.
    """
    loras = [f"{adapter.path}*{adapter.scale}" for adapter in adapters]
    asked = [*QUESTIONS, *TEXTS, str(MAX_TOKENS)]
    facts = [info.digest, info.backend_version, host, *settings, *loras, *asked]
    return sha256("\0".join(facts).encode()).hexdigest()


def beginnings(vectors: bytes) -> bytes:
    """Of both rows of numbers, so that a verdict stays small enough to be written down."""
    half = len(vectors) // 2
    return vectors[: min(half, MOST_NUMBERS)] + vectors[half:][:MOST_NUMBERS]


def lead(logprobs: Sequence[float]) -> float:
    """Of the most likely token, by the log-probabilities of the first two."""
    ahead = logprobs[0] - logprobs[1] if len(logprobs) > 1 else SURE
    return round(ahead, 3) if ahead < SURE else SURE


def clear(heard: Heard) -> tuple[int, ...]:
    """The tokens before the first one that could as well have been another."""
    count = next((at for at, ahead in enumerate(heard.leads) if ahead < MARGIN), len(heard.leads))
    return heard.token_ids[:count]


def judge(*, record: Record | None, golden: Golden | None, heard: tuple[Heard, ...], seconds: float) -> Verdict:
    """The verdict on the answers to a `song`, in its order, which took so many seconds in all."""
    error = _wrong(record, golden, heard)
    if error or not is_whole(heard):
        return Verdict(error=error)
    if golden is None:
        return Verdict(golden=Golden(answers=tuple(map(clear, heard[:2])), seconds=seconds))
    return Verdict(degraded=_slow(seconds, golden.seconds))


def is_whole(heard: tuple[Heard, ...]) -> bool:
    """Whether these answer a song that was not brief: only then its time can be compared."""
    return len(heard) > 1 or heard[0].reason == "numbers"


def _wrong(record: Record | None, golden: Golden | None, heard: tuple[Heard, ...]) -> str:
    for answer in heard[:4]:
        if answer.error:
            return f"The canary got an error: {answer.error.rstrip('.')}."
    if heard[0].reason == "numbers":
        return _numbers(heard[0].vectors)
    alone, together, json_like = heard[:2], heard[2:4], heard[4:]
    return (
        ("" if all(answer.token_ids for answer in heard[:4]) else "The canary got an empty answer.")
        or _unlike_record(record, alone[0])
        or _unlike_golden(golden, alone)
        or _unlike_alone(alone, together)
        or "".join(map(_no_json, json_like))
    )


def _difference(known: Sequence[int], heard: Sequence[int]) -> int | None:
    """Where (from 1) `heard` does not begin as all of `known`; None = it does."""
    return next((at + 1 for at, token in enumerate(known) if heard[at : at + 1] != (token,)), None)


def _unlike_record(record: Record | None, heard: Heard) -> str:
    at = _difference(record.token_ids, heard.token_ids) if record else None
    total = len(record.token_ids) if record else 0
    return f"The canary's answer differs from the recorded one at token {at} of {total}." if at else ""


def _unlike_golden(golden: Golden | None, alone: Sequence[Heard]) -> str:
    for number, (known, heard) in enumerate(zip(golden.answers if golden else (), alone, strict=False), 1):
        if at := _difference(known, heard.token_ids):
            return f"The canary's answer {number} differs at token {at} from what this model has answered before."
    return ""


def _unlike_alone(alone: Sequence[Heard], together: Sequence[Heard]) -> str:
    """One client's answer in another one's stream would be seen here."""
    for number, (one, other) in enumerate(zip(alone, together, strict=False), 1):
        if at := _difference(clear(one), other.token_ids):
            said = "The canary got two different greedy answers"
            return f"{said} to prompt {number}, alone and beside others, from token {at} on."
    return ""


def _no_json(heard: Heard) -> str:
    """A model that cannot be constrained says so to whoever asks for it, and is served; one that goes astray is not."""
    if heard.reason == "refused":
        return ""
    if heard.reason == "error":
        return f"The canary asked for JSON and got an error: {heard.error.rstrip('.')}."
    said = heard.text.strip()
    begun = heard.reason == "length" and any(word.startswith(said) for word in ("true", "false"))
    return "" if begun or said in ("true", "false") else f"The canary asked for true or false and got {said!r}."


def _numbers(vectors: bytes) -> str:
    """What is wrong with the two rows; they pass when they are finite, and equal but for rounding."""
    numbers = memoryview(vectors).cast("f").tolist()
    half = len(numbers) // 2
    if not half or not all(map(isfinite, numbers)):
        return "The canary got no finite numbers."
    pairs = zip(numbers[:half], numbers[half:], strict=True)
    if any(abs(a - b) > TOLERANCE * max(1.0, abs(a)) for a, b in pairs):
        return "The canary got two different answers to one text."
    return ""


def _slow(seconds: float, usual: float) -> str:
    if seconds < SLOW_SECONDS or seconds < SLOW_FACTOR * usual:
        return ""
    return f"The canary took {seconds:.1f} s, and {usual:.1f} s when it first sang."
