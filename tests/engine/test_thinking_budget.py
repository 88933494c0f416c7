"""Thoughts are counted in tokens, and end when they have taken as many as they may."""

import json
from pathlib import Path

import pytest

from lmx.backends.base import Mask
from lmx.engine.thoughts import Budget, Thoughts
from lmx.formats.thinking import HABITS
from lmx.machines.speech import Effort, Thinking
from lmx.machines.types import Chat, Constraint, Generation, Sampling
from tests.support.speaking import fake, guide

HI = ({"role": "user", "content": "How do I start the server?"},)
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
BYTES = [bytes([byte]) for byte in range(256)]
THINK = HABITS["think"]


def counted(text: str, *, opened: bool = False) -> int:
    """One token for each byte."""
    thoughts = Thoughts(THINK, BYTES, opened=opened)
    return sum(map(thoughts.feed, text.encode()))


@pytest.mark.parametrize(
    ("text", "opened", "count"),
    [
        ("", False, 0),
        ("just text < and <thin", False, 0),
        ("<think>abc</think>answer", False, 18),
        ("  <think>abc</think>", False, 18),
        ("abc</think>answer", True, 11),
        ("never closed", True, 12),
        ("<think>日</think>x<think>y", False, 18 + 8),
        ("<<think>x", False, 8),
        ("</think>", False, 0),
    ],
)
def test_thoughts_are_counted_with_their_marks(text: str, opened: bool, count: int) -> None:
    """A mark that is only begun is none, and text around thoughts does not count."""
    assert counted(text, opened=opened) == count


def test_a_mark_may_come_with_other_text_in_one_token() -> None:
    """Such a token is a thought."""
    thoughts = Thoughts(THINK, [b"a", b" <think>b", b"c</think>d", b"<think>x</think>"], opened=False)
    assert [thoughts.feed(token) for token in (0, 1, 2, 0, 3, 0)] == [0, 1, 1, 0, 1, 0]


def allowed(mask: Mask) -> int | None:
    """The only token that may come; None where any may."""
    words = mask.allowed()
    tokens = [token for token in range(256) if words[token // 32] >> (token % 32) & 1]
    return tokens[0] if len(tokens) == 1 else None


def test_no_character_is_cut_in_two() -> None:
    """The end is forced once the character is complete."""
    mask = Budget(Thoughts(THINK, BYTES, opened=True), 2, b"</think>", 256, None)
    for byte in "日".encode():
        assert allowed(mask) is None
        mask.accept(byte)
    for byte in b"</think>":
        assert allowed(mask) == byte
        mask.accept(byte)
    assert allowed(mask) is None


def thinking(budget: int | None = None) -> Chat:
    return Chat(HI, thinking=Thinking(enabled=True, budget=budget))


@pytest.mark.parametrize("backend", ["llama_cpp", "mlx"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_after_its_budget_it_answers(backend: str, temperature: float) -> None:
    """Five tokens of thought and those of the mark; what follows is an answer. Guesses change nothing."""
    chat = thinking(5)
    sampling = [Sampling(seed=seed, temperature=temperature) for seed in range(4)]
    for told in guide(backend).tell([Generation(prompt=chat, sampling=one, max_tokens=80) for one in sampling]):
        ending = len(guide(backend).backend.encode(THINK.forced_close, special=True))
        assert 1 <= told.thoughts <= 5 + ending
        assert told.text.index("</think>") > 0
        assert told.thought(chat)
        assert told.said(chat)


def test_without_a_budget_it_thinks_as_long_as_it_likes() -> None:
    """And thoughts that end by themselves are not touched by a budget that is large enough."""
    free, ample = guide("llama_cpp").tell(
        [
            Generation(prompt=thinking(budget), sampling=Sampling(temperature=0), max_tokens=300)
            for budget in (None, 250)
        ]
    )
    assert free.thoughts > 5
    assert (ample.text, ample.thoughts) == (free.text, free.thoughts)


@pytest.mark.parametrize("backend", ["llama_cpp", "mlx"])
def test_a_budget_and_a_schema(backend: str) -> None:
    """The forced end fits the grammar, and valid JSON follows."""
    chat = thinking(5)
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    generations = [Generation(prompt=chat, constraint=constraint, sampling=Sampling(seed=seed)) for seed in range(4)]
    for told in guide(backend).tell(generations):
        assert isinstance(json.loads(told.said(chat))["ok"], bool)
        assert told.thoughts < 15


@pytest.mark.parametrize("backend", ["llama_cpp", "mlx"])
def test_the_forced_end_is_spelt_as_the_model_learnt_it(backend: str) -> None:
    """A line end before a word is a token of its own, and the answer after it begins with a word."""
    rig = guide(backend)
    answer = rig.backend.encode("\n</think>\n\nlmx is", special=True)
    ending = answer[: -len(rig.backend.encode("lmx is", special=True))]
    told = rig.tell_one(Generation(prompt=thinking(5), sampling=Sampling(temperature=0), max_tokens=40))
    assert list(told.ids)[5 : 5 + len(ending)] == ending
    assert ending != rig.backend.encode(THINK.forced_close, special=True)
    assert told.said(thinking(5))[0].isupper()


def test_no_budget_at_all_is_no_thought() -> None:
    """Where the template has a switch it is thrown: the model is not stopped in a thought that it has begun."""
    rig = guide("llama_cpp")
    off = rig.intake.render(Chat(HI, thinking=Thinking(enabled=False))).text
    for asked in (Thinking(True, budget=0), Thinking(budget=0), Thinking(effort="low", budget=0)):
        chat = Chat(HI, thinking=asked)
        assert rig.intake.render(chat).text == off
        told = rig.tell_one(Generation(prompt=chat, sampling=Sampling(temperature=0), max_tokens=80))
        assert told.thoughts == 0
        assert "think>" not in told.text


ALWAYS = "{{ messages[-1]['content'] }}<think>\n"
"""A template without a switch."""
SAYS = "say=a long thought</think>%0A%0AThe answer is 日本."


def test_who_always_thinks_can_be_given_no_tokens_for_it(tmp_path: Path) -> None:
    """Its thought ends as soon as it has begun, and the answer is not touched."""
    template = tmp_path / "always.jinja"
    template.write_text(ALWAYS)
    told = fake(SAYS, str(template)).tell_one(Generation(prompt=Chat(HI, thinking=Thinking(budget=0))))
    assert told.text.startswith("\n</think>")
    assert "thought" not in told.text
    assert told.thoughts == len("\n</think>")


@pytest.mark.parametrize("budget", [1, 6, 100])
def test_it_goes_on_in_another_worker(budget: int) -> None:
    """In mid-thought, in the forced end or in the answer: text, end and count are those of the undisturbed run."""
    generation = Generation(prompt=thinking(budget))
    whole = fake(SAYS).tell_one(generation)
    assert whole.said(thinking()) == "The answer is 日本."
    assert whole.thoughts == (len("a long thought</think>") if budget == 100 else budget + len("\n</think>"))
    for steps in range(1, len(whole.ids) + 2):
        told = fake(SAYS).interrupted(generation, steps)
        assert (told.text, told.finish, told.thoughts) == (whole.text, whole.finish, whole.thoughts), steps


@pytest.mark.parametrize(
    ("effort", "asked", "budget"),
    [
        ("minimal", None, 512),
        ("low", None, 1024),
        ("medium", None, 4096),
        ("high", None, 16_384),
        ("xhigh", None, None),
        ("max", None, None),
        ("low", 7, 7),
        ("xhigh", 7, 7),
    ],
)
def test_an_effort_is_a_budget_where_the_template_knows_none(
    effort: Effort, asked: int | None, budget: int | None
) -> None:
    """Unless the request has a budget of its own."""
    dialect = fake().intake.dialect
    assert dialect is not None
    mode = dialect.mode(Chat(HI, thinking=Thinking(effort=effort, budget=asked)))
    assert (mode.thinks, mode.budget, mode.variables) == (True, budget, {"enable_thinking": True})
