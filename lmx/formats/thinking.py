"""How models mark their thoughts."""

import re
from collections.abc import Mapping

from msgspec import Struct


class Habit(Struct, frozen=True):
    """How one family of models thinks."""

    name: str
    open: str
    close: str
    forced_close: str
    """What is written for the model when it may think no longer."""
    signs: tuple[str, ...]
    """It is recognised by any of these in a chat template."""
    marks: tuple[str, ...] = ()
    """Its control tokens, where they are not `open` and `close` themselves."""


_HABITS = (
    Habit("think", "<think>", "</think>", "\n</think>\n\n", ("<think>", "</think>")),
    Habit("mistral", "[THINK]", "[/THINK]", "[/THINK]", ("[THINK]",)),
    Habit("gemma4", "<|channel>thought", "<channel|>", "\n<channel|>", ("<|channel>",), ("<|channel>", "<channel|>")),
    Habit("seed", "<seed:think>", "</seed:think>", "\n</seed:think>", ("<seed:think>", "</seed:think>")),
    Habit(
        "harmony",
        "<|channel|>analysis<|message|>",
        "<|end|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        ("<|channel|>analysis",),
        ("<|channel|>", "<|message|>", "<|end|>", "<|start|>"),
    ),
)
HABITS: Mapping[str, Habit] = {habit.name: habit for habit in _HABITS}
SWITCHES = ("enable_thinking", "thinking", "reasoning_effort")
"""Variables of chat templates that say whether, or how much, the model thinks."""

_CODE = re.compile(r"\{[%{](.*?)[%}]\}", re.DOTALL)
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def detect(template: str) -> Habit | None:
    """How a chat template (Jinja source) marks thoughts."""
    return next((habit for habit in _HABITS if any(sign in template for sign in habit.signs)), None)


def switches(template: str) -> tuple[str, ...]:
    """Those of SWITCHES that a template reads."""
    code = _STRING.sub("''", "\n".join(_CODE.findall(template)))
    return tuple(name for name in SWITCHES if _given(name, code))


def stoppable(template: str) -> bool:
    """Thinking can be switched off by one of the switches: an effort is one only where "none" is known."""
    names = switches(template)
    return bool({"enable_thinking", "thinking"} & set(names)) or bool(
        names and re.search(r"""(['"])none\1""", template)
    )


def _given(name: str, code: str) -> bool:
    """It comes from outside: where it is named first, it is not made, and it is nobody's member."""
    first = re.search(rf"(?<![\w.]){name}\b(?!\s*\()", code)
    return first is not None and not re.search(r"\b(?:set|for|macro)\s+\Z", code[: first.start()])
