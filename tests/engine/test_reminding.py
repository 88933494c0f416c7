"""System messages in mid-conversation, where the chat template takes none there."""

from typing import Any

import pytest

from lmx.engine.dialect import Dialect
from lmx.engine.reminding import reminded
from lmx.machines.types import Chat
from tests.engine.test_speech import info

EACH = "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
LATER = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
IN_FRONT = LATER + "{{ raise_exception('No.') }}{% endif %}{{ m.role }}:{{ m.content }}|{% endfor %}"
FORGETFUL = LATER + "{% else %}{{ m.role }}:{{ m.content }}|{% endif %}{% endfor %}"
SYSTEM = {"role": "system", "content": "S"}
LATE = {"role": "system", "content": "L"}
USER = {"role": "user", "content": "U"}
SAID = {"role": "assistant", "content": "A"}
TOOL = {"role": "tool", "content": "T"}
REMINDER = "<system-reminder>\nL\n</system-reminder>"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (EACH, "system:S|user:U|assistant:A|user:U|system:L|"),
        (IN_FRONT, f"system:S|user:U|assistant:A|user:U\n\n{REMINDER}|"),
        (FORGETFUL, f"system:S|user:U|assistant:A|user:U\n\n{REMINDER}|"),
    ],
)
def test_the_template_decides(source: str, text: str) -> None:
    """Where it takes them they stay; where it refuses or forgets them, the user reminds of them, in the same place."""
    dialect = Dialect(info(), source)
    chat = Chat((SYSTEM, USER, SAID, USER, LATE))
    assert dialect.template.render(dialect.readable(chat.messages), dialect.variables(chat)) == text


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([SYSTEM, LATE, USER], [("system", "S"), ("system", "L"), ("user", "U")]),
        ([USER, LATE, USER, SAID], [("user", f"U\n\n{REMINDER}\n\nU"), ("assistant", "A")]),
        ([USER, SAID, TOOL, LATE], [("user", "U"), ("assistant", "A"), ("tool", "T"), ("user", REMINDER)]),
        ([USER, SAID, LATE, USER], [("user", "U"), ("assistant", "A"), ("user", f"{REMINDER}\n\nU")]),
        ([USER, USER], [("user", "U"), ("user", "U")]),
    ],
)
def test_roles_keep_their_turns(messages: Any, told: Any) -> None:
    """A reminder joins the user's messages next to it; others that stand apart stay so, and what leads stays there."""
    assert [(message["role"], message["content"]) for message in reminded(messages)] == told


def test_images_stay_among_the_words() -> None:
    """A message with parts gets one more."""
    parts = [{"type": "image", "url": "data:"}]
    (message,) = reminded([{"role": "user", "content": parts}, LATE])
    assert message["content"] == [*parts, {"type": "text", "text": REMINDER}]
