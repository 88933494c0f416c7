"""From messages to tokens: what changes nothing is taken out, what is too long can be cut, and where messages end."""

import pytest

from lmx.backends.fake import FakeBackend
from lmx.engine.conversation import Conversation, Rendered
from lmx.engine.template import ChatTemplate

EACH = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
TEMPLATE = EACH + "{% if add_generation_prompt %}[assistant]{% endif %}"
CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "three"},
]


def conversation(messages: list[dict[str, str]] = CHAT, template: str = TEMPLATE) -> Conversation:
    return Conversation(messages, ChatTemplate(template, bos="", eos=""), FakeBackend())


def text(rendered: Rendered) -> str:
    return bytes(rendered.tokens).decode()


def test_a_line_that_changes_with_every_request_is_taken_out() -> None:
    """What coding agents put before their system prompt would make every prompt a new one."""
    system = "x-anthropic-billing-header: cc_version=2; cch=8f3a1;\nYou are an agent."
    rendered = conversation([{"role": "system", "content": system}, CHAT[1]]).render()
    assert text(rendered) == "[system]You are an agent.[user]one[assistant]"


def test_the_same_words_of_a_user_stay() -> None:
    """Only the system's part is normalised: what a user says is never changed."""
    said = "x-anthropic-billing-header: what is this?"
    assert said in text(conversation([{"role": "user", "content": said}]).render())


def test_each_message_has_its_end() -> None:
    """Boundaries count the tokens up to the end of every message."""
    rendered = conversation().render()
    ends = rendered.boundaries()
    assert [text(rendered)[:end] for end in ends[:2]] == ["[system]be kind", "[system]be kind[user]one"]
    assert list(ends) == sorted(ends)
    assert ends[-1] == len(text(rendered)) - len("[assistant]")


def test_prompts_branch_off_after_the_system_and_before_the_last_message() -> None:
    """Those are the places where a snapshot pays."""
    rendered = conversation().render()
    parts = {text(rendered)[:place] for place in rendered.turning_points()}
    assert parts == {"[system]be kind", text(rendered).removesuffix("[user]three[assistant]")}


@pytest.mark.parametrize(("room", "left"), [(60, "[system]be kind[user]two[assistant]2[user]three[assistant]")])
def test_the_oldest_turns_are_left_out_first(room: int, left: str) -> None:
    """The system's part stays, what follows begins with the user, and the reply says how much is missing."""
    shorter = conversation().shortened(room)
    assert shorter is not None
    rendered, cut = shorter
    assert (text(rendered), cut.messages) == (left, 2)
    assert cut.tokens == len("[user]one[assistant]1")


def test_the_last_turn_is_never_cut() -> None:
    """When even that does not fit, nothing sensible is left."""
    assert conversation().shortened(10) is None


def test_plain_text_loses_its_beginning_but_not_its_first_token() -> None:
    """A model that wants a token in front of every text keeps it."""
    shorter = Rendered([1, *range(100, 120)], kept=1).shortened(10)
    assert shorter is not None
    assert (shorter[0].tokens, shorter[1].tokens) == ([1, *range(111, 120)], 11)
