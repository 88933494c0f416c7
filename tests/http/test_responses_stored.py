"""Responses that are stored: going on from one, telling it again, deleting it, and making one in the background."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lmx.actors.messages.client import Accepted, Delta, Finished
from lmx.http import application
from lmx.http.responses.shelf import ShelfError, Stored
from lmx.machines.types import FailureKind, Usage
from lmx.responses_file import Bounds
from lmx.responses_store import ResponseStore
from tests.http.conftest import Serve, Served
from tests.http.test_openai_schema import validate
from tests.http.test_responses import ADD, CALL, URL, chat, create, events, refused, writes
from tests.support.dummies import fails, gate, is_silent, says, tells, waits

Keeping = Callable[..., Awaitable[Served]]


@pytest.fixture
async def keeping(serve: Serve, tmp_path: Path) -> Any:
    """A server with a store in a file."""
    stores: list[ResponseStore] = []

    async def start(**fields: Any) -> Served:
        store = ResponseStore(tmp_path / "responses.db", Bounds(100, 1_000_000))
        store.start()
        stores.append(store)
        return await serve(responses=store, **fields)

    yield start
    for store in stores:
        assert store.stop()


async def ask(served: Served, method: str, path: str, **headers: str) -> tuple[int, Any]:
    async with served.http.request(method, f"{URL}/{path}", headers=headers) as reply:
        return reply.status, await reply.json()


async def until(served: Served, id: str, *states: str) -> Any:
    """The response, when it has come into one of these states."""
    for _ in range(2000):
        _, body = await ask(served, "GET", id)
        if body["status"] in states:
            return body
    raise AssertionError(body)


async def test_it_is_told_again_and_deleted(keeping: Keeping) -> None:
    """GET tells the same as the POST did; after a DELETE it is gone."""
    served = await keeping()
    body = await create(served)
    assert body["store"] is True
    assert await ask(served, "GET", body["id"]) == (200, body)
    assert await ask(served, "DELETE", body["id"]) == (200, {"id": body["id"], "object": "response", "deleted": True})
    for method in ("GET", "DELETE"):
        status, gone = await ask(served, method, body["id"])
        validate(gone, "ErrorResponse")
        assert (status, gone["error"]["message"]) == (404, f"Response with id '{body['id']}' not found.")


async def test_a_streamed_one_is_stored_when_its_end_is_told(keeping: Keeping) -> None:
    """Whoever reads response.completed can go on from it."""
    served = await keeping()
    told = await events(served)
    response = told[-1]["response"]
    assert await ask(served, "GET", response["id"]) == (200, response)


async def test_not_stored(keeping: Keeping) -> None:
    """`store: false` keeps nothing."""
    served = await keeping()
    body = await create(served, store=False)
    assert body["store"] is False
    assert (await ask(served, "GET", body["id"]))[0] == 404


async def test_going_on(keeping: Keeping) -> None:
    """The conversation so far comes before the new input; the instructions of then do not."""
    served = await keeping()
    served.admission.script = writes("<think>Hm.</think>", CALL)
    first = await create(served, tools=[ADD], instructions="Then.")
    served.admission.script = says("2")
    id = first["output"][1]["call_id"]
    result = {"type": "function_call_output", "call_id": id, "output": "2"}
    second = await create(served, input=[result], previous_response_id=first["id"], instructions="Now.")
    assert second["previous_response_id"] == first["id"]
    third = await create(served, input="Thanks", previous_response_id=second["id"])
    call = {"id": id, "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": id, "content": "2"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Thanks"},
    ]
    assert list(chat(served).messages) == turns
    assert served.admission.generations()[1].prompt.messages[0] == {"role": "system", "content": "Now."}  # type: ignore[union-attr]
    await create(served, input=None, previous_response_id=third["id"])
    assert len(chat(served).messages) == len(turns) + 1


async def test_a_broken_call_needs_no_output(keeping: Keeping) -> None:
    """One that was cut off stays in the conversation, and its client may go on without having run it."""
    served = await keeping()
    served.admission.script = writes(CALL[:-16])
    cut = await create(served, tools=[ADD])
    served.admission.script = says("Well.")
    assert cut["output"][0]["status"] == "incomplete"
    await create(served, input="Again, please.", previous_response_id=cut["id"])
    assert [message["role"] for message in chat(served).messages] == ["user", "assistant", "user"]


async def test_a_lost_beginning_is_told(keeping: Keeping) -> None:
    """A conversation whose beginning is gone is refused, never answered without it."""
    served = await keeping()
    first = await create(served)
    second = await create(served, previous_response_id=first["id"])
    await ask(served, "DELETE", first["id"])
    for previous in (first["id"], second["id"]):
        status, error = await refused(served, previous_response_id=previous)
        assert (status, error["code"], error["param"]) == (400, "previous_response_not_found", "previous_response_id")
        assert error["message"] == f"Previous response with id '{first['id']}' not found."
    assert (await ask(served, "GET", f"{second['id']}/input_items"))[0] == 404


async def test_a_conversation_is_bounded_as_a_body_is(keeping: Keeping) -> None:
    """Bytes that could not be sent at once are not read at once from the store either."""
    served = await keeping(max_body_bytes=20_000)
    first = await create(served, input="a" * 9_000)
    second = await create(served, input="b" * 9_000, previous_response_id=first["id"])
    status, error = await refused(served, previous_response_id=second["id"])
    assert (status, error["param"]) == (400, "previous_response_id")
    assert "at most 20000 are read. Begin a new one." in error["message"]


async def test_a_conversation_of_too_many_items_is_refused(serve: Serve, tmp_path: Path) -> None:
    """Together they may be no more than those of one body."""
    store = ResponseStore(tmp_path / "responses.db", Bounds(100, 100_000_000))
    store.start()
    served = await serve(responses=store)
    id = ""
    for _ in range(2):
        many = [{"role": "user", "content": "a"}] * 17_000
        id = (await create(served, input=many, **({"previous_response_id": id} if id else {})))["id"]
    status, error = await refused(served, previous_response_id=id)
    assert (status, error["code"]) == (400, "too_many_values")
    assert store.stop()


async def test_a_reference_is_resolved(keeping: Keeping) -> None:
    """An item of a stored response may be named by its id alone, in both spellings."""
    served = await keeping()
    body = await create(served)
    id = body["output"][0]["id"]
    for reference in ({"id": id}, {"type": "item_reference", "id": id}):
        await create(served, input=[{"role": "user", "content": "Hi"}, reference])
        assert [message["content"] for message in chat(served).messages] == ["Hi", "Hello world"]


async def test_an_item_comes_once(keeping: Keeping) -> None:
    """A client that goes on from a response and sends its items again too would have the model read them twice."""
    served = await keeping()
    first = await create(served)
    again = [*first["output"], {"role": "user", "content": "And?"}]
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    for fields in ({"input": again, "previous_response_id": first["id"]}, {"input": [reference, *again]}):
        status, error = await refused(served, **fields)
        assert (status, error["param"]) == (400, "input")
        assert error["message"].startswith(f"Duplicate item found with id {first['output'][0]['id']}.")
    await create(served, input=[{"role": "user", "content": "Hi", "id": ""}, *again], store=False)


async def test_input_items(keeping: Keeping) -> None:
    """What a response answers is listed in pages, the newest first unless asked otherwise."""
    served = await keeping()
    first = await create(served, input=[{"role": "user", "content": f"{number}"} for number in range(3)])
    second = await create(served, previous_response_id=first["id"], input="Last")
    items: list[Any] = []
    after = ""
    while True:
        path = f"{second['id']}/input_items?order=asc&limit=2" + (f"&after={after}" if after else "")
        _, page = await ask(served, "GET", path)
        assert (page["object"], page["first_id"], page["last_id"]) == (
            "list",
            page["data"][0]["id"],
            page["data"][-1]["id"],
        )
        items += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    for item in items:
        validate(item, "Item")
        assert item["id"]
    assert [item["content"][0]["text"] for item in items] == ["0", "1", "2", "Hello world", "Last"]
    _, page = await ask(served, "GET", f"{second['id']}/input_items")
    assert [item["id"] for item in page["data"]] == [item["id"] for item in reversed(items)]
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=x", "after")):
        status, body = await ask(served, "GET", f"{second['id']}/input_items?{query}")
        assert (status, body["error"]["param"]) == (400, param)


async def test_one_key_does_not_see_what_another_one_has(keeping: Keeping) -> None:
    """Neither a response, nor its items, nor the conversation."""
    served = await keeping()
    body = await create(served)
    other = {"Authorization": "Bearer other-key"}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        assert (await ask(served, method, body["id"] + path, **other))[0] == 404
    again = {"model": "m", "input": "Hi", "previous_response_id": body["id"]}
    status, _, answer = await served.post(URL, again, headers=other)
    assert (status, answer["error"]["code"]) == (400, "previous_response_not_found")
    assert (await ask(served, "GET", body["id"]))[0] == 200


async def test_a_key_is_the_same_however_it_is_sent(keeping: Keeping) -> None:
    """The scheme's name knows no case (RFC 9110), and Anthropic's clients have a header of their own."""
    served = await keeping()
    key = {"Authorization": "Bearer my-key-123"}
    _, _, body = await served.post(URL, {"model": "m", "input": "Hi"}, headers=key)
    for headers in (key, {"Authorization": "bearer my-key-123"}, {"x-api-key": "my-key-123"}):
        assert (await ask(served, "GET", body["id"], **headers))[0] == 200
    assert (await ask(served, "GET", body["id"]))[0] == 404


async def test_queries_that_cannot_be_honoured(keeping: Keeping) -> None:
    """A stored response is not streamed; what it may include is told anyway."""
    served = await keeping()
    id = (await create(served))["id"]
    for query, param in (("stream=true", "stream"), ("starting_after=3", "starting_after"), ("include=x", "include")):
        status, body = await ask(served, "GET", f"{id}?{query}")
        assert (status, body["error"]["param"].partition("[")[0]) == (400, param)
    assert (await ask(served, "GET", f"{id}?include[]=message.output_text.logprobs&stream=false"))[0] == 200


async def test_in_the_background(keeping: Keeping) -> None:
    """The answer comes at once; the response is made without its client, and told as it gets on."""
    served = await keeping()
    with gate() as go:
        served.admission.script = waits(go, tells(Delta("Done"), Finished("stop", Usage(5, 1))), (Accepted(5),))
        body = await create(served, background=True)
        assert (body["status"], body["background"], body["output"]) == ("queued", True, [])
        validate(await until(served, body["id"], "in_progress"), "Response")
        status, error = await refused(served, previous_response_id=body["id"])
        assert (status, error["param"]) == (400, "previous_response_id")
        go.set()
        done = await until(served, body["id"], "completed")
    validate(done, "Response")
    assert done["output"][0]["content"][0]["text"] == "Done"
    assert await ask(served, "POST", f"{body['id']}/cancel") == (200, done)


async def test_cancelled(keeping: Keeping) -> None:
    """The model is told to stop; doing it twice is doing it once."""
    served = await keeping()
    served.admission.script = is_silent(Accepted(5), Delta("Half"))
    body = await create(served, background=True)
    await until(served, body["id"], "in_progress")
    status, cancelled = await ask(served, "POST", f"{body['id']}/cancel")
    validate(cancelled, "Response")
    assert (status, cancelled["status"]) == (200, "cancelled")
    assert len(await served.admission.ends()) == 1
    assert await ask(served, "GET", body["id"]) == (200, cancelled)
    assert await ask(served, "POST", f"{body['id']}/cancel") == (200, cancelled)


async def test_what_cannot_be_cancelled(keeping: Keeping) -> None:
    """A response that its client waited for, and one that is not there."""
    served = await keeping()
    body = await create(served)
    status, answer = await ask(served, "POST", f"{body['id']}/cancel")
    assert (status, answer["error"]["message"]) == (400, "Cannot cancel a synchronous response.")
    assert (await ask(served, "POST", "resp_x/cancel"))[0] == 404


async def test_deleted_while_it_is_made(keeping: Keeping) -> None:
    """It ends, and does not come back."""
    served = await keeping()
    served.admission.script = is_silent(Accepted(5))
    body = await create(served, background=True)
    assert (await ask(served, "DELETE", body["id"]))[0] == 200
    assert len(await served.admission.ends()) == 1
    assert (await ask(served, "GET", body["id"]))[0] == 404


async def test_a_failure_in_the_background(keeping: Keeping) -> None:
    """It is told by the response."""
    served = await keeping()
    served.admission.script = fails(FailureKind.WORKER_DIED, "Half")
    body = await create(served, background=True)
    failed = await until(served, body["id"], "failed")
    validate(failed, "Response")
    assert failed["error"] == {"code": "server_error", "message": "It broke."}


async def test_a_fault_of_ours_in_the_background(keeping: Keeping) -> None:
    """It is told by the response as well: nobody waits for it for ever."""
    served = await keeping()
    served.admission.script = tells(Accepted(5), Finished("stop", "no usage"))  # type: ignore[arg-type]
    body = await create(served, background=True)
    failed = await until(served, body["id"], "failed")
    assert failed["error"]["code"] == "server_error"
    assert "error while processing" in failed["error"]["message"]


async def test_what_the_end_of_the_server_interrupted_has_failed(keeping: Keeping) -> None:
    """No response is in progress for ever."""
    served = await keeping()
    served.admission.script = is_silent(Accepted(5))
    body = await create(served, background=True)
    other = await keeping()
    _, told = await ask(other, "GET", body["id"])
    validate(told, "Response")
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")


async def test_a_server_that_stops_says_so(keeping: Keeping) -> None:
    """What is still made in the background is given up, and stored as that."""
    served = await keeping()
    served.admission.script = is_silent(Accepted(5), Delta("Half"))
    other = await application.start(application.build(served.gateway), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{other.port}{URL}"
    async with served.http.post(url, json={"model": "m", "input": "Hi", "background": True}) as reply:
        id = (await reply.json())["id"]
    await served.admission.submitted()
    await other.stop()
    _, told = await ask(served, "GET", id)
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")
    assert len(await served.admission.ends()) == 1


@pytest.mark.parametrize(("asked", "param"), [({"stream": True}, "stream"), ({"store": False}, "background")])
async def test_a_background_that_cannot_be(keeping: Keeping, asked: Any, param: str) -> None:
    served = await keeping()
    status, error = await refused(served, background=True, **asked)
    assert (status, error["param"]) == (400, param)


class BrokenShelf:
    """A disk that does nothing."""

    def keep(self, stored: Stored) -> None: ...

    async def find(self, owner: str, id: str) -> Stored | None:
        raise ShelfError("it broke.")

    async def chain(self, owner: str, id: str) -> list[Stored]:
        raise ShelfError("it broke.")

    async def with_item(self, owner: str, item: str) -> Stored | None:
        raise ShelfError("it broke.")

    async def drop(self, owner: str, id: str) -> bool:
        raise ShelfError("it broke.")


async def test_a_broken_disk(serve: Serve) -> None:
    """The reply still comes; what needs the store says so with 503 and when to try again."""
    served = await serve(responses=BrokenShelf())
    body = await create(served)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        status, answer = await ask(served, method, body["id"] + path)
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    status, error = await refused(served, previous_response_id=body["id"])
    assert (status, error["code"]) == (503, "store_unavailable")
    assert (await refused(served, input=[{"id": "msg_1"}]))[0] == 503


async def test_without_a_store(served: Served) -> None:
    """Nothing is stored, and nothing can be asked for."""
    body = await create(served)
    assert body["store"] is False
    assert (await ask(served, "GET", body["id"]))[0] == 404
