"""What no model here reads, in the middle of a conversation: each API says where it is, and what to do."""

from typing import Any

import pytest

from lmx.actors.messages.client import Refused
from lmx.machines.types import Refusal, RefusalKind
from tests.http.conftest import Served
from tests.http.test_images import data_url
from tests.support.dummies import tells
from tests.support.projector import png

URL = data_url(png(1))
BLIND = Refused(Refusal(RefusalKind.UNSUPPORTED, "This model does not see images.", param="messages"))
ADVICE = "Leave the image at '{}' out of the conversation, also from now on, or choose a model that sees."
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SAID: Any = [{"role": "user", "content": "Look."}, {"role": "assistant", "content": "At what?"}]
LOOK: Any = {"type": "text", "text": "There."}
SHOT: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]},
}
USE: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]}
TOOLS: Any = [{"name": "look", "input_schema": {"type": "object"}}]


def turn(*parts: Any) -> Any:
    return [*SAID, {"role": "user", "content": [*parts]}, {"role": "assistant", "content": "I see."}, *SAID[:1]]


def found(part: Any) -> Any:
    return [SAID[0], USE, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [part]}]}]


@pytest.mark.parametrize(
    ("path", "asked", "place"),
    [
        (CHAT, {"messages": turn(LOOK, {"type": "image_url", "image_url": {"url": URL}})}, "messages[2].content[1]"),
        (
            RESPONSES,
            {"input": turn({"type": "input_text", "text": "."}, {"type": "input_image", "image_url": URL})},
            "input[2].content[1]",
        ),
        (MESSAGES, {"messages": turn(LOOK, SHOT), "max_tokens": 9}, "messages.2.content.1.image.source"),
        (f"{MESSAGES}/count_tokens", {"messages": turn(SHOT)}, "messages.2.content.0.image.source"),
        (
            MESSAGES,
            {"messages": found(SHOT), "tools": TOOLS, "max_tokens": 9},
            "messages.2.content.0.tool_result.content.0.image.source",
        ),
    ],
)
async def test_an_image_for_a_model_that_does_not_see(served: Served, path: str, asked: Any, place: str) -> None:
    """An agent sends it again with every turn: the user must know what to take out."""
    served.admission.script = tells(BLIND)
    status, _, reply = await served.post(path, {"model": "m", **asked})
    assert status == 400
    error = reply["error"]
    assert error["message"].endswith(f"This model does not see images. {ADVICE.format(place)}")
    assert error["message"].startswith(f"{place}: ") if path.startswith(MESSAGES) else error["param"] == place


@pytest.mark.parametrize(
    ("path", "asked", "place", "advice"),
    [
        (
            CHAT,
            {"messages": turn(LOOK, {"type": "file", "file": {}})},
            "messages[2].content[1]",
            "Leave 'messages[2].content[1]' out of the conversation, or send its text.",
        ),
        (RESPONSES, {"input": turn({"type": "input_file"})}, "input[2].content[0].type", "none of 'input_text'"),
        (
            MESSAGES,
            {"messages": found({"type": "document", "source": {"type": "base64", "data": "JVBE"}}), "max_tokens": 9},
            "messages.2.content.0.tool_result.content.0.document.source.type",
            "No PDF is read here: send its text, and leave it out of the conversation from now on",
        ),
    ],
)
async def test_a_file_that_nobody_reads(served: Served, path: str, asked: Any, place: str, advice: str) -> None:
    """The same for a PDF."""
    status, _, reply = await served.post(path, {"model": "m", **asked})
    assert status == 400
    message = reply["error"]["message"]
    assert advice in message
    assert message.startswith(f"{place}: ") if path == MESSAGES else reply["error"]["param"] == place


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        ("user", "'text', 'image_url'"),
        ("assistant", "'text', 'refusal'"),
        ("system", "'text'"),
        ("developer", "'text'"),
        ("tool", "'text'"),
    ],
)
async def test_the_types_of_parts_are_listed(served: Served, role: str, kinds: str) -> None:
    """All that messages of that role may have."""
    said = {"role": role, "content": [LOOK, {"type": "hologram"}], "tool_call_id": "t"}
    _, _, reply = await served.post(CHAT, {"model": "m", "messages": [said]})
    assert reply["error"]["param"] == "messages[0].content[1].type"
    assert reply["error"]["message"] == f"Invalid value: 'hologram'. Supported values are: {kinds}."
