"""Images through the whole server: seen by a model with a projector, refused by one without."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import guide
from tests.support.projector import TOKENS, png, write_projector
from tests.support.server import Server

pytest.importorskip("llama_cpp")

URL = f"data:image/png;base64,{base64.b64encode(png(1)).decode()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vision")
    write_projector(folder / "mmproj.gguf")
    config = f'[models.eyes]\npath = "{guide.GGUF}"\nmmproj = "mmproj.gguf"\n'
    server = Server(folder, config).ready()
    server.loaded("eyes")
    yield server
    assert server.stop() == 0


def ask(server: Server, model: str, *parts: dict[str, Any]) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": list(parts)}], "max_tokens": 8, "temperature": 0}
    return server.post("/v1/chat/completions", body)


def image(url: str = URL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


LONG = "Tell me all that you can see in this image, one thing after the other, and leave nothing out, please." * 2


def test_an_image_is_part_of_the_prompt(server: Server) -> None:
    """It takes tokens, and what is said depends on it; asked again, the prompt is known with its image."""
    status, seen = ask(server, "eyes", text(LONG), image(), text("\nWhat is it?"))
    assert status == 200, seen
    _, other = ask(server, "eyes", text(LONG), text("\nWhat is it?"))
    assert seen["usage"]["prompt_tokens"] == other["usage"]["prompt_tokens"] + TOKENS
    again = ask(server, "eyes", text(LONG), image(), text("\nWhat is it?"))[1]
    assert again["choices"][0]["message"]["content"] == seen["choices"][0]["message"]["content"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_agents_show_images_too(server: Server) -> None:
    """An image block of /v1/messages."""
    source = {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]}
    content = [{"type": "image", "source": source}, text("What is it?")]
    body = {"model": "eyes", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    status, reply = server.post("/v1/messages", body)
    assert (status, reply.get("type")) == (200, "message"), reply


def test_a_model_without_a_projector_says_so(server: Server) -> None:
    """400 with the part's place, on a server where another model could."""
    status, reply = ask(server, "lmx-guide", text("Hi"), image())
    assert (status, reply["error"]["param"]) == (400, "messages[0].content[1]")
    assert "does not see" in reply["error"]["message"]


def test_a_damaged_image_is_the_clients_fault(server: Server) -> None:
    """What only the decoder finds out is a 400 as well, and the worker lives."""
    broken = base64.b64encode(png(1)[:60]).decode()
    pid = server.worker("eyes")
    status, reply = ask(server, "eyes", image(f"data:image/png;base64,{broken}"))
    assert status == 400, reply
    assert server.worker("eyes") == pid


def test_who_sees_is_told(server: Server) -> None:
    capabilities = {model["id"]: model["capabilities"] for model in server.get("/v1/models")[1]["data"]}
    assert (capabilities["eyes"]["vision"], capabilities["lmx-guide"]["vision"]) == (True, False)
