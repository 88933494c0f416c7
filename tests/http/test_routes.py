"""Every route but the two that generate, and what all of them have in common."""

import asyncio
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import yarl

from lmx.actors.messages import admission, caller, journal
from lmx.actors.messages.client import Accepted
from lmx.http import application
from lmx.machines.types import Refusal, RefusalKind
from tests.http.conftest import Serve, Served
from tests.support.dummies import DummyJournal, gate, is_silent, says, view, waits

ROOT = Path(__file__).parents[2]
HI: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_the_folder_does_not_hide_the_standard_library() -> None:
    """With the repository's root on sys.path, `import http.client` is still Python's."""
    code = "import http.client, http; print(http.client.__file__, http.__file__)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT / "lmx") not in out.stdout
    assert not (ROOT / "lmx/http/__init__.py").exists()


# --- models ---------------------------------------------------------------------------------------------------------


async def test_models_are_listed_with_their_state(served: Served) -> None:
    """The official client lists them; our own fields ride along."""
    listed = [model async for model in served.openai.models.list()]
    assert [(model.id, model.owned_by, model.created) for model in listed] == [
        ("m", "lmx", 1_700_000_000),
        ("org/n", "lmx", 1_700_000_000),
    ]
    assert [(model.model_extra or {})["state"] for model in listed] == ["ready", "unloaded"]


@pytest.mark.parametrize("path", ["/v1/models/org/n", "/v1/models/org%2Fn"])
async def test_a_model_id_may_have_slashes(served: Served, path: str) -> None:
    """B46"""
    status, _, body = await served.get(path)
    assert (status, body["id"], body["state"]) == (200, "org/n", "unloaded")


@pytest.mark.parametrize(
    "name", ["nope", "..%2F..%2Fetc%2Fpasswd", "%2e%2e%2fetc", "m%00", "%ff", "x" * 7000, "m/", "M"]
)
async def test_an_unknown_model_is_404(served: Served, name: str) -> None:
    """B44, B45, B46: ids are looked up; nothing is a path, nothing long is echoed."""
    async with served.http.get(yarl.URL(f"http://127.0.0.1:{served.port}/v1/models/{name}", encoded=True)) as reply:
        body = await reply.json()
        assert reply.status == 404
    assert body["error"]["code"] in ("model_not_found", "unknown_url")
    assert len(body["error"]["message"]) < 300


async def test_models_are_listed_while_the_journal_is_stuck(serve: Serve) -> None:
    """A list without states is better than none."""
    served = await serve(board_seconds=0.01)
    served.journal.board = None
    status, _, body = await served.get("/v1/models")
    assert (status, [model["state"] for model in body["data"]]) == (200, ["unknown", "unknown"])


# --- metrics --------------------------------------------------------------------------------------------------------


async def test_metrics_count_requests_by_route(served: Served) -> None:
    """Labels are routes, not paths: few, whatever clients ask for."""
    await served.get("/v1/models/org/n")
    await served.get("/a/path/that/nobody/has")
    status, headers, text = await served.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert re.search(r'lmx_http_requests_total\{method="GET",route="/v1/models/\{id\}",status="200"\}', text)
    assert "nobody" not in text


# --- admin ----------------------------------------------------------------------------------------------------------


async def test_every_machine_is_shown(served: Served) -> None:
    """Actor, machine, state, since when, what may come next, why, and facts."""
    status, _, body = await served.get("/admin/machines")
    assert status == 200
    assert body["transitions"] == []
    assert body["machines"][1] == {
        "actor": "model:m",
        "machine": "Model",
        "state": "ready",
        "since": 1.0,
        "legal": ["drain"],
        "reason": "because",
        "facts": {"context": 4096},
    }


@pytest.mark.parametrize("form", ["mermaid", "dot", "table"])
async def test_a_machine_is_drawn_in_its_state(served: Served, form: str) -> None:
    status, _, text = await served.get(f"/admin/machines/model:org/n/diagram?format={form}")
    assert (status, text) == (200, f"{form} of Model in unloaded")


@pytest.mark.parametrize(("path", "status"), [("model:x/diagram", 404), ("server/diagram?format=png", 400)])
async def test_what_cannot_be_drawn_is_said(served: Served, path: str, status: int) -> None:
    got, _, body = await served.get(f"/admin/machines/{path}")
    assert got == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("verb", "message"), [("load", admission.LoadModel), ("unload", admission.UnloadModel)])
async def test_an_admin_loads_and_unloads(served: Served, verb: str, message: Any) -> None:
    """200 with the state once it is settled."""
    status, _, body = await served.post(f"/admin/models/org/n/{verb}", None)
    assert (status, body) == (200, {"model": "org/n", "state": "ready"})
    assert isinstance(served.admission.messages[0], message)


async def test_a_load_that_is_refused_says_why(served: Served) -> None:
    refusal = Refusal(RefusalKind.INSUFFICIENT_MEMORY, "It needs 9 GB, 4 GB are free.")
    served.admission.reply = lambda model: caller.Refused(model, refusal)
    status, _, body = await served.post("/admin/models/m/load", None)
    assert (status, body["error"]["message"]) == (503, "It needs 9 GB, 4 GB are free.")


async def test_a_load_that_never_settles_is_504(serve: Serve) -> None:
    served = await serve(admin_seconds=0.01)
    served.admission.reply = None
    assert (await served.post("/admin/models/m/load", None))[0] == 504


async def test_an_unknown_model_cannot_be_loaded(served: Served) -> None:
    assert (await served.post("/admin/models/nope/load", None))[0] == 404


async def test_every_model_is_told_of(serve: Serve) -> None:
    """What was agreed on at its load, memory by kind, shares; what else is known; and no load, no numbers."""
    facts: dict[str, journal.Fact] = {
        "context": 4096, "slots": 8, "prefix": "trim", "speculation": "off: no draft", "kv_type": "q8_0",
        "kv_layout": "auto", "makes": "text", "adapters": "style.gguf=0.5", "memory_bytes": 200, "kv_bytes": 20,
        "weights_bytes": 100, "cache_hit_share": 0.25, "acceptance": None, "speculating": False, "pid": 7,
    }  # fmt: skip
    served = await serve(journal=DummyJournal(view("model:m", "ready", "Model", **facts)))
    status, _, body = await served.get("/admin/models")
    known, unknown = body["models"]
    assert (status, known["id"], known["state"], known["reason"]) == (200, "m", "ready", "because")
    assert known["agreed"] == {
        "backend": None, "version": None, "context": 4096, "slots": 8, "kv_type": "q8_0", "kv_layout": "auto",
        "prefix": "trim", "speculation": "off: no draft", "makes": "text", "adapters": "style.gguf=0.5",
    }  # fmt: skip
    assert (known["memory"]["memory_bytes"], known["memory"]["weights_bytes"], known["memory"]["kv_bytes"]) == (
        200, 100, 20
    )  # fmt: skip
    assert (known["doing"]["cache_hit_share"], known["doing"]["acceptance"]) == (0.25, None)
    assert known["facts"] == {"pid": 7}
    assert (unknown["id"], unknown["state"], unknown["memory"]["memory_bytes"]) == ("org/n", "unknown", None)


@pytest.mark.parametrize(("origin", "status"), [("http://evil.com", 403), ("null", 403), ("", 200)])
async def test_no_other_page_may_unload_a_model(served: Served, origin: str, status: int) -> None:
    """A post without a body is sent by browsers for any page that asks: only our own origin may."""
    headers = {"Origin": origin or f"http://127.0.0.1:{served.port}"}
    assert (await served.post("/admin/models/m/unload", None, headers=headers))[0] == status


# --- the page -------------------------------------------------------------------------------------------------------


async def test_the_page_loads_only_what_we_serve(served: Served) -> None:
    """No inline script or style and no other host, and a policy that says so; every file that it names is there."""
    status, headers, html = await served.get("/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=|https?://", html)
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
    assert len(names) >= 3
    for name in [*names, "/static/markdown.js"]:
        assert (await served.get(name))[0] == 200


@pytest.mark.parametrize("name", ["nope.js", "..%2Fpage.py", "app.py"])
async def test_nothing_else_is_served(served: Served, name: str) -> None:
    assert (await served.get(f"/static/{name}"))[0] == 404


# --- all routes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/nope", "/v1/chat/completions/", "/V1/models", "/%2e%2e/etc/passwd"])
async def test_an_unknown_url_is_named(served: Served, path: str) -> None:
    """B66, B67"""
    status, _, body = await served.post(path, HI)
    assert status == 404
    assert body["error"]["code"] == "unknown_url"
    if path == "/v1/nope":
        assert body["error"]["message"] == "Invalid URL (POST /v1/nope)"


async def test_a_wrong_method_names_the_right_ones(served: Served) -> None:
    """B66"""
    status, headers, body = await served.get("/v1/chat/completions")
    assert (status, headers["Allow"], body["error"]["code"]) == (405, "POST", "method_not_allowed")


async def test_head_has_no_body(served: Served) -> None:
    async with served.http.head("/healthz") as reply:
        assert (reply.status, await reply.read()) == (200, b"")


IDS = [("my-id_1.2", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a/b", False), ("", False)]


@pytest.mark.parametrize(("given", "kept"), IDS)
@pytest.mark.parametrize("path", ["/healthz", "/nope"])
async def test_every_answer_has_an_id(served: Served, path: str, given: str, kept: bool) -> None:
    """B63: the client's own id when it is harmless, else a new one; and the headers that every answer has."""
    async with served.http.get(path, headers={"X-Request-ID": given}) as reply:
        assert (reply.headers["x-request-id"] == given) == kept
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", reply.headers["x-request-id"])
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Server"] == "lmx"


async def test_a_bug_is_a_500_without_details(serve: Serve) -> None:
    """What crashed is for the log, not for the client."""

    def draw(machine: str, state: str | None, form: str) -> str:
        raise RuntimeError("a secret")

    served = await serve(diagram=draw)
    status, headers, body = await served.get("/admin/machines/server/diagram")
    assert (status, body["error"]["type"]) == (500, "server_error")
    assert "secret" not in str(body)
    assert "x-request-id" in headers


async def test_one_log_line_tells_the_whole_request(served: Served) -> None:
    """Id, route, status, duration, model, tokens: on one line, whatever the client put into its path."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with structlog.testing.capture_logs() as lines:
            await served.post("/v1/chat/completions", HI, headers={"X-Request-ID": "abc"})
    finally:
        structlog.configure(**before)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == "abc"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == ("m", 5, 2)
    assert line["first_text_seconds"] <= line["seconds"]


# --- the listener ---------------------------------------------------------------------------------------------------


async def test_a_taken_port_is_an_oserror(served: Served) -> None:
    """The command line explains it to the user; nothing is left behind."""
    with pytest.raises(OSError, match="address already in use"):
        await application.start(application.build(served.gateway), "127.0.0.1", served.port)


async def test_stop_waits_for_what_is_in_flight(serve: Serve) -> None:
    """A request that is being worked on gets its whole answer; new connections are refused at once."""
    served = await serve()
    site = await application.start(application.build(served.gateway), "127.0.0.1", 0, shutdown_seconds=20)
    url = f"http://127.0.0.1:{site.port}/v1/chat/completions"
    with gate() as go:
        served.admission.script = waits(go, says("late"))
        asked = asyncio.create_task(served.post(url, HI, headers={"Connection": "close"}))
        await served.admission.submitted()
        stopping = asyncio.create_task(site.stop())
        while await can_connect(site.port):
            pass
        assert not stopping.done()
        go.set()
        status, _, body = await asked
        await stopping
    assert (status, body["choices"][0]["message"]["content"]) == (200, "late")


async def test_stop_cancels_what_does_not_end(serve: Serve) -> None:
    """After the shutdown time-out, what still runs is cancelled: the server always stops."""
    served = await serve()
    site = await application.start(application.build(served.gateway), "127.0.0.1", 0, shutdown_seconds=0.05)
    served.admission.script = is_silent(Accepted(5))
    asked = asyncio.create_task(served.post(f"http://127.0.0.1:{site.port}/v1/chat/completions", HI))
    await served.admission.submitted()
    await asyncio.wait_for(site.stop(), 10)
    assert isinstance((await served.admission.ends())[0], admission.Cancel)
    with pytest.raises(aiohttp.ClientError):
        await asked


async def can_connect(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
