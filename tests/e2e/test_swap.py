"""An alias moves to another model on a running server."""

import threading
from collections.abc import Callable
from typing import Any

from tests.support.server import Server

Serve = Callable[..., Server]

CONFIG = """
guide = false
[aliases]
best = "one"
[models.one]
backend = "fake"
script = "step=0.005"
[models.two]
backend = "fake"
script = "step=0.005;load=0.5"
preload = false
[models.broken]
backend = "fake"
script = "fail_load=The file is damaged"
preload = false
"""


def chat(server: Server, model: str, text: str) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return server.post("/v1/chat/completions", body)


def test_no_request_fails_while_an_alias_moves(serve: Serve) -> None:
    """Requests go on all the while; afterwards the new model serves them and the old one is unloaded."""
    server = serve(CONFIG).ready()
    server.loaded("one")
    stop, answers = threading.Event(), list[tuple[int, Any]]()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(chat(server, "best", "hello"))

    askers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        assert server.post("/admin/aliases/best", {"model": "two"}) == (
            200,
            {"alias": "best", "model": "two", "state": "steady", "reason": "", "fallbacks": []},
        )
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert {status for status, _ in answers} == {200}
    assert {body["model"] for _, body in answers} == {"best"}
    states = {machine["actor"]: machine["state"] for machine in server.get("/admin/machines")[1]["machines"]}
    assert (states["model:one"], states["model:two"], states["alias:best"]) == ("unloaded", "ready", "steady")


def test_what_does_not_load_leaves_the_alias_where_it_was(serve: Serve) -> None:
    """409 says why and what the alias means; names that nobody has are 404."""
    server = serve(CONFIG).ready()
    server.loaded("one")
    status, body = server.post("/admin/aliases/best", {"model": "broken"})
    assert (status, body["error"]["code"]) == (409, "swap_failed")
    assert "means one as before" in body["error"]["message"]
    assert "damaged" in body["error"]["message"]
    assert chat(server, "best", "still here")[1]["choices"][0]["message"]["content"] == "still here"
    assert server.post("/admin/aliases/best", {"model": "nobody"})[0] == 404
    assert server.post("/admin/aliases/nobody", {"model": "one"})[0] == 404
    [shown] = server.get("/admin/aliases")[1]
    assert (shown["alias"], shown["model"], shown["state"]) == ("best", "one", "steady")
    listed = {model["id"]: model["state"] for model in server.get("/v1/models")[1]["data"]}
    assert listed["best"] == listed["one"] == "ready"
