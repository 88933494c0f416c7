"""Embeddings and scores between the engine's steps."""

from dataclasses import replace

import numpy as np
import pytest

from lmx.backends.base import Info
from lmx.backends.fake import FakeBackend
from lmx.engine.jobs import BATCH_INPUTS, BATCH_TOKENS, Job, JobIntake, Jobs, refuse_generation
from lmx.machines import frames
from lmx.machines.tasks import Embedding, Input, Pair
from lmx.machines.types import ModelSpec, RefusalKind, Text, Tokens

CONTEXT = 600


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def info(backend: FakeBackend) -> Info:
    return backend.load(ModelSpec(name="m", path="", backend="fake", context=CONTEXT), lambda _: True)


def embed(*inputs: Input, job: int = 1, score: bool = False) -> frames.Embed:
    return frames.Embed(job, Embedding(inputs, score))


def ready(backend: FakeBackend, info: Info, asked: frames.Embed) -> Job:
    job = JobIntake(backend, info).prepare(asked)
    assert isinstance(job, Job)
    return job


def rows(done: frames.Embedded | None) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    assert done is not None
    assert done.error == ""
    return np.frombuffer(done.vectors, "<f4").reshape(-1, done.width)


def test_a_job_is_computed_a_few_inputs_at_a_time_and_told_in_order(backend: FakeBackend, info: Info) -> None:
    """Between two steps of the engine no more is read than for a prompt; the answer has a row for each input."""
    texts = [f"text number {number}" * (1 + number % 7) for number in range(20)]
    jobs = Jobs(backend)
    jobs.add(ready(backend, info, embed(*map(Text, texts))))
    turns = [jobs.step()]
    while turns[-1] is None:
        turns.append(jobs.step())
    assert len(turns) >= len(texts) / BATCH_INPUTS
    assert jobs.idle
    done = turns[-1]
    assert done is not None
    assert done.tokens == tuple(map(len, texts))
    np.testing.assert_array_equal(rows(done), backend.embed([list(text.encode()) for text in texts]))


def test_a_turn_reads_no_more_than_a_prompt_may(backend: FakeBackend, info: Info) -> None:
    """Inputs are taken together as long as they are short; a long one is read alone."""
    long, short = Tokens((7,) * (BATCH_TOKENS + 1)), Tokens((7,) * (BATCH_TOKENS // 2))
    job = ready(backend, info, embed(short, short, short, long, short))
    taken = []
    while job.done < len(job.inputs):
        taken.append(len(job.next_inputs()))
        job.rows.append(backend.embed(job.next_inputs()))
    assert taken == [2, 1, 1, 1]


def test_jobs_take_turns(backend: FakeBackend, info: Info) -> None:
    """A job of one input does not wait for the end of one with many."""
    jobs = Jobs(backend)
    jobs.add(ready(backend, info, embed(*[Text("many")] * 100, job=1)))
    jobs.add(ready(backend, info, embed(Text("one"), job=2)))
    assert jobs.step() is None
    done = jobs.step()
    assert done is not None
    assert done.job == 2


def test_a_cancelled_job_is_never_told(backend: FakeBackend, info: Info) -> None:
    """Also one that is half done; an unknown one is ignored."""
    jobs = Jobs(backend)
    jobs.add(ready(backend, info, embed(*[Text("many")] * 100)))
    jobs.step()
    jobs.cancel(2)
    assert jobs.step() is None
    jobs.cancel(1)
    assert jobs.idle
    assert jobs.step() is None


def test_numbers_that_are_not_finite_are_an_error(backend: FakeBackend, info: Info) -> None:
    """A job never ends in NaN."""

    class Poisoned(FakeBackend):
        def embed(self, prompts: object) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
            return np.full((1, 16), np.nan, np.float32)

    jobs = Jobs(Poisoned())
    jobs.add(ready(backend, info, embed(Text("x"))))
    done = jobs.step()
    assert done is not None
    assert (done.error, done.vectors) == ("The model gave numbers that are not finite.", b"")
    assert jobs.idle


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        (embed(Text("x"), Text("")), RefusalKind.INVALID_PROMPT, "Input 1 is empty"),
        (embed(Tokens(())), RefusalKind.INVALID_PROMPT, "Input 0 is empty"),
        (embed(), RefusalKind.INVALID_PROMPT, "inputs of this model, not 0"),
        (embed(Tokens((5, 999))), RefusalKind.INVALID_PROMPT, "a token id outside 0 … 256"),
        (embed(Text("x" * 601)), RefusalKind.CONTEXT_LENGTH_EXCEEDED, "600 tokens. However, input 0 has 601."),
        (embed(Pair("a", "b")), RefusalKind.INVALID_PROMPT, "does not rerank"),
        (embed(Pair("a", "b"), score=True), RefusalKind.INVALID_PROMPT, "does not rerank"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(
    backend: FakeBackend, info: Info, asked: frames.Embed, kind: RefusalKind, text: str
) -> None:
    """With a sentence that says which one, before anything is computed."""
    rejected = JobIntake(backend, info).prepare(asked)
    assert isinstance(rejected, frames.Rejected)
    assert (rejected.seq, rejected.refusal.kind) == (1, kind)
    assert text in rejected.refusal.message


def test_a_model_that_only_writes_makes_no_embeddings(backend: FakeBackend, info: Info) -> None:
    """It is refused, with what to choose instead."""
    rejected = JobIntake(backend, replace(info, embedding=0)).prepare(embed(Text("x")))
    assert isinstance(rejected, frames.Rejected)
    assert rejected.refusal.message == "This model makes no embeddings: choose an embedding model."


def test_texts_are_framed_as_the_model_wants(backend: FakeBackend, info: Info) -> None:
    """BOS in front and what it wants behind, also of a text that looks like a control token."""
    job = ready(backend, replace(info, bos=1, ends=(2, 3)), embed(Text("ab"), Tokens((9,))))
    assert job.inputs == [[1, 97, 98, 2, 3], [9]]


def test_a_pair_is_what_the_model_wants(backend: FakeBackend, info: Info) -> None:
    """Words around both texts are joined with them; control tokens only count where the model itself puts them."""

    class Control(FakeBackend):
        def encode(self, text: str, *, special: bool) -> list[int]:
            return [256] if special and text == "<s>" else super().encode(text, special=special)

    job = ready(Control(), replace(info, pair="<s>q: {query}<s>{document}<s>"), embed(Pair("<s>", "d"), score=True))
    assert job.inputs == [[256, *b"q: <s>", 256, *b"d", 256]]
    jobs = Jobs(backend)
    jobs.add(job)
    assert rows(jobs.step()).shape == (1, 1)


def test_models_that_write_no_text_say_what_they_are_for(info: Info) -> None:
    """One sentence with the route; models that do write are not refused."""
    assert refuse_generation(info) is None
    embeds = refuse_generation(replace(info, generates=False))
    assert embeds is not None
    assert embeds.message == "This is an embedding model, which writes no text: use /v1/embeddings."
    ranks = refuse_generation(replace(info, generates=False, embedding=0, pair="{query}{document}"))
    assert ranks is not None
    assert "/v1/rerank" in ranks.message


def test_fewer_dimensions_are_the_first_ones_at_length_1(backend: FakeBackend, info: Info) -> None:
    """Cut and made a unit again, all numbers finite also where nothing but zeros is left; never more than there are."""
    texts = (Text("abcdefghijklmnop"), Text("o"))  # the fake's numbers of "o" (111) are all zero but the last one
    whole, cut = (Embedding(texts, dimensions=dimensions) for dimensions in (0, 4))
    jobs = Jobs(backend)
    for number, asked in enumerate((whole, cut)):
        jobs.add(ready(backend, info, frames.Embed(number, asked)))
    all_of_it, some_of_it = rows(jobs.step()), rows(jobs.step())
    assert some_of_it.shape == (2, 4)
    np.testing.assert_allclose(some_of_it[0], all_of_it[0, :4] / np.linalg.norm(all_of_it[0, :4]), rtol=1e-6)
    np.testing.assert_array_equal(some_of_it[1], np.zeros(4))
    rejected = JobIntake(backend, info).prepare(frames.Embed(1, Embedding(texts, dimensions=17)))
    assert isinstance(rejected, frames.Rejected)
    assert rejected.refusal.param == "dimensions"
    assert "16 dimensions: 17 are too many" in rejected.refusal.message
