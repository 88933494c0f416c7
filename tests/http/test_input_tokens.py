"""POST /v1/responses/input_tokens: what a request to /v1/responses would cost to read."""

from typing import Any

from lmx.actors.messages.client import Finished, Refused, Rendered
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Refusal, RefusalKind, Usage
from tests.http.conftest import Served
from tests.support.dummies import tells

URL = "/v1/responses/input_tokens"
FIELDS: Any = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [{"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}],
    "reasoning": {"effort": "low"},
    "truncation": "disabled",
}


async def test_a_request_is_counted(served: Served) -> None:
    """The official client reads it, and the model renders just what it would be asked to answer."""
    served.admission.script = tells(Rendered((1, 2, 3), ""), Finished("stop", Usage(3, 0)))
    count = await served.openai.responses.input_tokens.count(**FIELDS)
    assert (count.object, count.input_tokens) == ("response.input_tokens", 3)
    await served.post("/v1/responses", FIELDS)
    counted, (asked,) = served.admission.submits()[0].generation, served.admission.generations()
    assert isinstance(counted, Rendering)
    assert isinstance(asked.prompt, Chat)
    assert (counted.source, counted.to) == (asked.prompt, "tokens")


async def test_what_cannot_be_counted_is_refused_by_its_name(served: Served) -> None:
    """As it is where an answer is asked for."""
    for change, param in (
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"personality": "friendly"}, "personality"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ):
        status, _, reply = await served.post(URL, FIELDS | change)
        assert (status, reply["error"]["param"]) == (400, param)
    served.admission.script = tells(Refused(Refusal(RefusalKind.INVALID_PROMPT, "No.", param="messages")))
    _, _, reply = await served.post(URL, FIELDS)
    assert (reply["error"]["param"], reply["error"]["message"]) == ("input", "No.")
