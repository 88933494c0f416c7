"""How a chat is to be read, and what of it was thought, reaches the client through real workers, also through two."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lmx.actors.messages import caller, client
from lmx.machines.speech import Speech, Thinking
from lmx.machines.types import Chat, Generation, RefusalKind
from tests.support.house import OUTCOMES, Actors, fake, text_of

Start = Any
HI = ({"role": "user", "content": "Hi"},)
SPEECH = Speech("hermes", "think", opened=True, switch=True)
THOUGHT = "well, " * 20 + "</think>"
SAYS = f"say={THOUGHT}%0AHello"


@pytest.mark.parametrize("dies", [False, True])
def test_speech_is_told_once_and_thoughts_are_counted(start: Start, dies: bool) -> None:
    """In mid-thought the worker dies or not: it is all the same to the client."""
    house: Actors = start(fake("m", f"{SAYS};step=0.005"))
    house.load("m")
    _, stream = house.submit("m", Generation(prompt=Chat(HI, thinking=Thinking(enabled=True))))
    if dies:
        stream.wait_for(client.Delta)
        os.kill(house.pid("m"), signal.SIGKILL)
    finished = stream.wait_for(OUTCOMES)
    assert isinstance(finished, client.Finished), finished
    assert text_of(stream) == THOUGHT + "\nHello"
    assert finished.usage.reasoning_tokens == len(THOUGHT)
    assert [event.speech for event in stream.messages if isinstance(event, client.Accepted)] == [SPEECH]
    assert house.path("model:m").count("backoff") == dies


def test_a_ready_model_s_facts_say_what_it_can(start: Start, tmp_path: Path) -> None:
    """Whether it calls functions, and whether it thinks: as the template has it that it was given."""
    file = tmp_path / "plain.jinja"
    file.write_text("{{ messages[0].content }}", encoding="utf-8")
    house: Actors = start(fake("able"), fake("plain", chat_template=str(file)))
    for name, can in (("able", True), ("plain", False)):
        house.load(name)
        facts = house.view(f"model:{name}").facts
        assert (facts["tools"], facts["thinking"]) == (can, can)
    _, stream = house.submit("plain", Generation(prompt=Chat(HI, thinking=Thinking(enabled=True))))
    refused = stream.wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert (refused.refusal.kind, refused.refusal.param) == (RefusalKind.UNSUPPORTED, "thinking")


def test_a_template_that_is_none_fails_the_load(start: Start, tmp_path: Path) -> None:
    """With the file and the line; the worker does not die of it."""
    file = tmp_path / "broken.jinja"
    file.write_text("{{ 1 }}\n{% if %}", encoding="utf-8")
    house: Actors = start(fake("m", chat_template=str(file)))
    reply = house.load("m")
    assert isinstance(reply, caller.Refused)
    assert reply.refusal.kind is RefusalKind.MODEL_LOAD_FAILED
    assert f"{file} is broken at line 2" in reply.refusal.message
