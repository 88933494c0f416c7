"""All formats, and which of them a model has."""

import re
from collections.abc import Mapping

from lmx.formats import thinking
from lmx.formats.base import Format
from lmx.formats.deepseek import DeepSeek, DeepSeekFenced
from lmx.formats.gemma import FunctionGemma, Gemma4
from lmx.formats.harmony import Harmony
from lmx.formats.hermes import Hermes
from lmx.formats.kimi import Kimi
from lmx.formats.llama import Llama
from lmx.formats.mistral import Mistral, MistralIds, MistralList
from lmx.formats.pythonic import Lfm2, Pythonic
from lmx.formats.tagged import Glm, MiniMax, QwenCoder
from lmx.machines.speech import Speech

_MARK = re.compile(r"<[^\s<>]+>|\[/?[A-Z_]+\]")

_FORMATS: tuple[Format, ...] = (
    Harmony(),
    MiniMax(),
    Gemma4(),
    FunctionGemma(),
    Kimi(),
    DeepSeekFenced(),
    DeepSeek(),
    MistralIds(),
    Mistral(),
    MistralList(),
    Glm(),
    QwenCoder(),
    Lfm2(),
    Hermes(),
    Pythonic(),
    Llama(),
)
FORMATS: Mapping[str, Format] = {one.name: one for one in _FORMATS}
"""In the order in which they are tried: the most particular marks first."""


def detect(template: str) -> Speech:
    """What a chat template (Jinja source) teaches. `opened` is False: only the rendered prompt tells that."""
    calls = next((one.name for one in FORMATS.values() if "tools" in template and one.recognised(template)), "")
    habit = thinking.detect(template)
    return Speech(
        calls=calls, thoughts=habit.name if habit else "", switch=habit is not None and thinking.stoppable(template)
    )


def opened(speech: Speech, prompt: str) -> bool:
    """Whether the rendered prompt ends within a thought: no other mark comes after the one that opens it.

    So a mark that a user wrote does not count: templates end messages with marks.
    """
    habit = thinking.HABITS.get(speech.thoughts)
    if habit is None:
        return False
    _, mark, thought = prompt.rpartition(habit.open)
    return bool(mark) and habit.close not in thought and not _MARK.search(thought)


def marks(speech: Speech) -> frozenset[str]:
    """What must be visible in the text also where the vocabulary has it as a control token."""
    habit, calls = thinking.HABITS.get(speech.thoughts), FORMATS.get(speech.calls)
    return frozenset(
        [
            *((habit.open, habit.close, *habit.marks) if habit else ()),
            *(calls.marks if calls else ()),
        ]
    )
