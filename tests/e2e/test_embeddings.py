"""Embeddings, relevance, tokens and templates of a real server, with the official openai client where it has them."""

from collections.abc import Iterator

import numpy as np
import openai
import pytest

from tests.support import models
from tests.support.guide import GGUF
from tests.support.server import Server

TEXTS = ["hello world", "something else", "hello"]
EMBEDDERS = ("bert", "mlx")
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed")
    paths = {"bert": models.gguf_file("bert"), "mlx": models.mlx_folder(), "ranks": models.gguf_file("reranker")}
    paths["guide"] = GGUF
    config = "guide = false\n" + "".join(
        f'[models.{name}]\npath = "{path}"\ncontext = 512\n' for name, path in paths.items()
    )
    started = Server(tmp_path_factory.mktemp("embeddings"), config).listen()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0, timeout=120) as opened:
        yield opened


@pytest.mark.parametrize("model", EMBEDDERS)
def test_embeddings_as_numbers_and_as_base64(client: openai.OpenAI, model: str) -> None:
    """Units in the order of the inputs, equal for the same text; the client's own default is base64."""
    plain = client.embeddings.create(model=model, input=TEXTS, encoding_format="float")
    packed = client.embeddings.create(model=model, input=TEXTS)
    rows = np.array([one.embedding for one in plain.data])
    assert rows.shape == (3, models.DIM)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(rows, [one.embedding for one in packed.data])
    alone = client.embeddings.create(model=model, input=TEXTS[1], encoding_format="float").data[0].embedding
    np.testing.assert_allclose(rows[1], alone, atol=1e-4)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0


@pytest.mark.parametrize("model", EMBEDDERS)
def test_fewer_dimensions(client: openai.OpenAI, model: str) -> None:
    """The first numbers as a unit; more than the model has is a 400 that says so."""
    whole = np.array(client.embeddings.create(model=model, input="hello").data[0].embedding)
    cut = client.embeddings.create(model=model, input="hello", dimensions=8).data[0].embedding
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="too many") as refused:
        client.embeddings.create(model=model, input="hello", dimensions=models.DIM + 1)
    assert refused.value.param == "dimensions"


def test_what_a_model_does_not_do_is_a_400_that_says_so(client: openai.OpenAI, server: Server) -> None:
    """No embeddings of a reranker, no relevance of an embedder, no ids outside the vocabulary, nothing too long."""
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="ranks", input="hello")
    status, body = server.post("/v1/rerank", {"model": "bert", "query": "a", "documents": ["b"]})
    assert (status, body["error"]["param"]) == (400, "model")
    assert "does not rerank" in body["error"]["message"]
    with pytest.raises(openai.BadRequestError, match="outside 0") as outside:
        client.embeddings.create(model="bert", input=[[5], [10**6]])
    assert outside.value.param == "input"
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model="bert", input=[7] * 513)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")


def test_documents_are_ranked(server: Server) -> None:
    """The same scores whatever comes beside them, the best first."""
    documents = ["hello world", "x", "something else", "hello"]
    asked = {"model": "ranks", "query": "hello", "documents": documents, "return_documents": True}
    status, body = server.post("/v1/rerank", asked)
    assert status == 200
    results = body["results"]
    scores = [one["relevance_score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    assert sorted(one["index"] for one in results) == [0, 1, 2, 3]
    assert [one["document"]["text"] for one in results] == [documents[one["index"]] for one in results]
    best = server.post("/rerank", {**asked, "documents": [documents[results[0]["index"]]], "top_n": 3})[1]
    assert best["results"][0]["relevance_score"] == pytest.approx(scores[0], abs=1e-3)
    assert body["usage"]["total_tokens"] > best["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("model", ["guide", "mlx", "bert"])
def test_tokens_there_and_back(server: Server, model: str) -> None:
    """A text comes back from its tokens, of any kind of model; a template's text makes the tokens of its messages."""
    text = "Hello wörld, 你好!"
    status, body = server.post("/tokenize", {"model": model, "content": text})
    assert (status, body["count"]) == (200, len(body["tokens"]))
    assert server.post("/detokenize", {"model": model, "tokens": body["tokens"]}) == (200, {"content": text})
    assert server.post("/detokenize", {"model": model, "tokens": [10**6]})[0] == 400
    prompt = server.post("/apply-template", {"model": model, "messages": HI})[1]["prompt"]
    assert "Hi" in prompt
    chat = server.post("/tokenize", {"model": model, "messages": HI})[1]
    assert server.post("/tokenize", {"model": model, "content": prompt})[1] == chat


def test_a_prompt_of_so_many_tokens_is_counted_so(client: openai.OpenAI, server: Server) -> None:
    """What /tokenize says of messages is what a chat with them is charged."""
    counted = server.post("/tokenize", {"model": "guide", "messages": HI})[1]["count"]
    usage = client.chat.completions.create(
        model="guide", messages=[{"role": "user", "content": "Hi"}], max_tokens=1
    ).usage
    assert usage is not None
    assert usage.prompt_tokens == counted
