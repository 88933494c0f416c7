"""A sequence goes on in another worker as if that had written all of it: text, log-probabilities, limits, its end."""

from dataclasses import dataclass, field

import pytest

from lmx.actors.writing import Writing
from lmx.engine.intake import Ready
from lmx.machines import frames
from lmx.machines.frames import Finish, Resume, SeqStep
from lmx.machines.types import Chat, Constraint, Generation, Sampling, Text, Tokens
from tests.support.constraints import allowed, model
from tests.support.engine import EngineBench

JSON = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'
CHAT = Chat(({"role": "user", "content": "a chat of some length"},))


@dataclass
class Told:
    """What a client heard."""

    writing: Writing = field(default_factory=Writing)
    text: str = ""
    logprobs: list[bytes] = field(default_factory=list)
    prompt_logprobs: int = 0
    finish: Finish | None = None

    def hear(self, did: SeqStep) -> None:
        assert self.finish is None
        self.writing.add(did)
        self.text += did.text
        self.logprobs += [one.text for one in did.logprobs]
        if did.prefilled:
            news = self.writing.prefilled(did, 10_000)
            self.prompt_logprobs += len(news.logprobs) if news else 0
        self.finish = did.finish or self.finish


def run(told: Told, generation: Generation, script: str, steps: int) -> Told:
    """In a worker of its own, for so many reports."""
    bench = EngineBench(script)
    ready = bench.intake.prepare(frames.Insert(1, generation, told.writing.resume()))
    assert isinstance(ready, Ready), ready
    bench.engine.insert(ready)
    reports = 0
    while not bench.engine.idle and reports < steps:
        for did in bench.engine.step().seqs:
            told.hear(did)
            reports += 1
    return told


CASES: dict[str, tuple[Generation, str]] = {
    "plain": (Generation(prompt=Text("hello world")), ""),
    "chat": (Generation(prompt=CHAT), ""),
    "several tokens a step": (Generation(prompt=Text("hello world")), "burst=3"),
    "snapshots": (Generation(prompt=Text("hello " * 8)), "prefix=snapshot"),
    "characters of several bytes": (Generation(prompt=Text("né 日本 👩‍👩‍👧 e\u0301")), ""),
    "half a character at the end": (Generation(prompt=Text("né 日本"), max_tokens=5), ""),
    "a stop string": (Generation(prompt=Text("one two three"), stop=("o three", "x")), ""),
    "nearly a stop string": (Generation(prompt=Text("one twi twi two"), stop=("twist",)), ""),
    "max_tokens": (Generation(prompt=Text("hello world"), max_tokens=7), ""),
    "min_tokens": (Generation(prompt=Text("hello"), min_tokens=12), ""),
    "ignore_eos": (Generation(prompt=Text("ab"), ignore_eos=True, max_tokens=9), ""),
    "logprobs": (Generation(prompt=Text("hello 日本"), logprobs=2), ""),
    "logprobs and a stop string": (Generation(prompt=Text("one twi 日本 two"), logprobs=0, stop=("twist", "wo")), ""),
    "echo and logprobs": (Generation(prompt=Text("hello world"), logprobs=1, echo=True), ""),
    "a schema": (Generation(prompt=Text("x"), constraint=Constraint("json_schema", JSON), max_tokens=40), ""),
    "a pattern": (Generation(prompt=Text("abc"), constraint=Constraint("regex", "[a-c]{5,8}z+y"), max_tokens=20), ""),
    "seeded": (Generation(prompt=Text("hello"), sampling=Sampling(seed=3)), ""),
}


@pytest.mark.parametrize(("generation", "script"), CASES.values(), ids=CASES.keys())
def test_it_is_the_undisturbed_run(generation: Generation, script: str) -> None:
    """Wherever the worker dies, the client hears the same text, as many log-probabilities, the same count and end."""
    whole = run(Told(), generation, script, 1000)
    assert whole.finish is not None
    for steps in range(1, 1000):
        told = run(Told(), generation, script, steps)
        if told.finish is not None:
            return
        told.writing.cut(logprobs=generation.logprobs is not None)
        told = run(told, generation, script, 1000)
        assert told.text == whole.text
        assert told.finish == whole.finish
        assert (told.writing.tokens, told.writing.ids) == (whole.writing.tokens, whole.writing.ids)
        assert (told.logprobs, told.prompt_logprobs) == (whole.logprobs, whole.prompt_logprobs)


def test_the_client_s_prompt_is_what_counts() -> None:
    """What was written is read like a prompt, but is none: not for the usage, the echo, or what may still come."""
    bench = EngineBench(context=20)
    generation = Generation(prompt=Text("twelve bytes"), max_tokens=8, echo=True)
    ready = bench.intake.prepare(frames.Insert(1, generation, Resume(tuple(b"twelv"), 5)))
    assert isinstance(ready, Ready)
    assert (ready.asked_tokens, ready.max_tokens, ready.echo) == (12, 3, "twelve bytes")
    assert bytes(ready.prompt) == b"twelve bytestwelv"


def test_what_did_not_fit_at_first_does_not_fit_now() -> None:
    """The check is the same as for the first worker."""
    bench = EngineBench(context=19)
    generation = Generation(prompt=Text("twelve bytes"), max_tokens=8)
    assert isinstance(bench.intake.prepare(frames.Insert(1, generation, Resume((116,), 1))), frames.Rejected)


def test_more_was_told_than_the_tokens_say() -> None:
    """Tokens are written again whose text the client has in part: it hears the rest."""
    bench = EngineBench()
    generation = Generation(prompt=Tokens(tuple(b"abcdef")))
    ready = bench.intake.prepare(frames.Insert(1, generation, Resume(tuple(b"ab"), 4)))
    assert isinstance(ready, Ready)
    bench.engine.insert(ready)
    text = ""
    while not bench.engine.idle:
        text += "".join(did.text for did in bench.engine.step().seqs)
    assert text == "ef"


def test_a_slot_may_be_taken_away_from_it() -> None:
    """While it reads what was written it is preempted like any prompt, and loses nothing."""
    bench = EngineBench("prompts=1", chunk=64, context=4000)
    generation = Generation(prompt=Text("x" * 600 + "end"))
    ready = bench.intake.prepare(frames.Insert(1, generation, Resume(tuple(b"x" * 590), 590)))
    assert isinstance(ready, Ready)
    bench.engine.insert(ready)
    bench.step()
    bench.step()
    bench.insert(2, "short")
    bench.run()
    assert bench.order[0] == 2
    assert bench.texts == {1: "x" * 10 + "end", 2: "short"}
    assert bench.backend.stats().running == 0


@pytest.mark.parametrize("name", ["guide", "tiny", "guide_mlx"])
def test_a_real_grammar_stands_where_the_other_worker_s_stood(name: str) -> None:
    """After the written tokens at once the same may follow as after one by one, up to the end of the text."""
    chosen = model(name)
    grammar = chosen.grammars().compile(Constraint("json_schema", JSON))
    tokens, mask = chosen.encode('{"ok": true}'), grammar.mask()
    for at in range(len(tokens) + 1):
        taken_up = grammar.mask(tokens[:at])
        assert (taken_up.allowed() == mask.allowed()).all()
        assert not taken_up.fault
        if at < len(tokens):
            mask.accept(tokens[at])
    assert set(allowed(mask.allowed())) == set(chosen.info.eos)
