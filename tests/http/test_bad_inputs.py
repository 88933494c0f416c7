"""Every bad input gets the answer that OpenAI would give, in its envelope, and none reaches an actor."""

import gzip
import json
from typing import Any

import pytest

from tests.http.conftest import Serve, Served

HI = [{"role": "user", "content": "Hi"}]
INVALID_JSON = ("invalid_json", None)
JSON = {"Content-Type": "application/json"}


def chat(**fields: Any) -> Any:
    return {"model": "m", "messages": HI, **fields}


def message(**fields: Any) -> Any:
    return {"model": "m", "messages": [fields]}


def completion(**fields: Any) -> Any:
    return {"model": "m", "prompt": "Hi", **fields}


# What is sent, then the code, the param and a part of the message of the 400 that it gets.
CHAT: list[tuple[str, Any, str | None, str | None, str]] = [
    ("B3", [], "invalid_type", None, "must be a JSON object"),
    ("B3", 42, "invalid_type", None, "must be a JSON object"),
    ("B3", "x", "invalid_type", None, "must be a JSON object"),
    ("B24", {"messages": HI}, None, None, "you must provide a model parameter"),
    ("B25", {"model": 5, "messages": HI}, "invalid_type", "model", "expected a string, but got an integer instead"),
    ("B28", {"model": "m"}, "missing_required_parameter", "messages", "Missing required parameter: 'messages'."),
    (
        "B29",
        {"model": "m", "messages": []},
        "empty_array",
        "messages",
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ),
    ("B30", {"model": "m", "messages": "x"}, "invalid_type", "messages", "expected an array, but got a string instead"),
    ("B30", {"model": "m", "messages": ["x"]}, "invalid_type", "messages[0]", "expected an object"),
    ("B31", message(content="x"), "missing_required_parameter", "messages[0].role", "'messages[0].role'"),
    ("B31", message(role=123, content="x"), "invalid_type", "messages[0].role", "expected a string"),
    ("B31", message(role="robot", content="x"), "invalid_value", "messages[0].role", "Supported values are: 'system'"),
    ("B32", message(role="user", content=5), "invalid_type", "messages[0].content", "one of a string or an array"),
    ("B32", message(role="user", content={}), "invalid_type", "messages[0].content", "but got an object instead"),
    ("B32", message(role="user", content=None), "invalid_type", "messages[0].content", "but got null instead"),
    ("B32", message(role="user"), "missing_required_parameter", "messages[0].content", "messages[0].content"),
    ("B32", message(role="user", content=[]), "empty_array", "messages[0].content", "empty array"),
    (
        "B33",
        message(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        "invalid_value",
        "messages[0].content[0].type",
        "Invalid value: 'image_url'. Supported values are: 'text'.",
    ),
    (
        "B33",
        message(role="user", content=[{"type": "input_audio"}]),
        "invalid_value",
        "messages[0].content[0].type",
        "",
    ),
    (
        "B33",
        message(role="user", content=[{"type": "text"}]),
        "missing_required_parameter",
        "messages[0].content[0].text",
        "",
    ),
    (
        "B36",
        message(role="assistant", content="x", tool_calls=[{}]),
        "unsupported_parameter",
        "messages[0].tool_calls",
        "'messages[0].tool_calls' is not supported by lmx yet.",
    ),
    ("B54", message(role="user", content="x", foo=1), "unknown_parameter", "messages[0].foo", "messages[0].foo"),
    (
        "B37",
        chat(temperature=200),
        "decimal_above_max_value",
        "temperature",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 200 instead.",
    ),
    ("B37", chat(temperature=-1), "decimal_below_min_value", "temperature", ">= 0, but got -1 instead"),
    ("B37", chat(temperature="hot"), "invalid_type", "temperature", "expected a decimal, but got a string instead"),
    ("B37", chat(temperature=True), "invalid_type", "temperature", "but got a boolean instead"),
    ("B38", chat(top_p=5), "decimal_above_max_value", "top_p", "<= 1, but got 5"),
    ("B38", chat(top_p=0), "decimal_below_min_value", "top_p", "> 0, but got 0"),
    ("B38", chat(presence_penalty=3), "decimal_above_max_value", "presence_penalty", "<= 2"),
    ("B38", chat(frequency_penalty=-3), "decimal_below_min_value", "frequency_penalty", ">= -2"),
    ("B38", chat(min_p=2), "decimal_above_max_value", "min_p", ""),
    ("B38", chat(top_k=-5), "integer_below_min_value", "top_k", ""),
    ("B38", chat(repetition_penalty=0), "decimal_below_min_value", "repetition_penalty", ">= 0.1"),
    ("B39", chat(n=0), "integer_below_min_value", "n", ">= 1, but got 0"),
    ("B39", chat(n=130), "integer_above_max_value", "n", "<= 128, but got 130"),
    ("B40", chat(max_tokens=0), "integer_below_min_value", "max_tokens", ">= 1, but got 0"),
    (
        "B40",
        chat(max_tokens=-678),
        "integer_below_min_value",
        "max_tokens",
        "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got -678 instead.",
    ),
    ("B40", chat(max_tokens=1.5), "invalid_type", "max_tokens", "expected an integer, but got a decimal instead"),
    ("B40", chat(max_tokens="10"), "invalid_type", "max_tokens", "expected an integer, but got a string instead"),
    ("B40", chat(max_completion_tokens=0), "integer_below_min_value", "max_completion_tokens", ""),
    ("B40", chat(max_tokens=2, max_completion_tokens=3), "invalid_parameter_combination", "max_tokens", "same time"),
    (
        "B42",
        chat(stop=["a"] * 5),
        "array_above_max_length",
        "stop",
        "Expected an array with maximum length 4, but got an array with length 5 instead.",
    ),
    ("B42", chat(stop=["a"] * 100_000), "array_above_max_length", "stop", "length 100000"),
    ("B42", chat(stop=["a" * 1_000_000]), "string_above_max_length", "stop[0]", "length 1000000"),
    ("B42", chat(stop=[]), "empty_array", "stop", ""),
    ("B42", chat(stop=""), "empty_string", "stop", ""),
    ("B42", chat(stop=[""]), "empty_string", "stop[0]", "empty string"),
    ("B42", chat(stop=[1]), "invalid_type", "stop[0]", ""),
    ("B42", chat(stop=5), "invalid_type", "stop", "one of a string or an array"),
    ("B43", chat(logit_bias={"foo": 0}), "invalid_value", "logit_bias", "Invalid key in 'logit_bias'"),
    ("B43", chat(logit_bias={"-1": 0}), "invalid_value", "logit_bias", "Invalid key in 'logit_bias'"),
    ("B43", chat(logit_bias={"1": 101}), "decimal_above_max_value", "logit_bias", "<= 100"),
    ("B43", chat(logit_bias={"1": "x"}), "invalid_type", "logit_bias", "expected a decimal"),
    ("B43", chat(logit_bias=[1]), "invalid_type", "logit_bias", "expected an object"),
    ("B43", chat(logit_bias={str(i): 0 for i in range(30_000)}), "object_above_max_length", "logit_bias", "1024"),
    ("B47", chat(top_logprobs=21), "integer_above_max_value", "top_logprobs", ""),
    ("B47", chat(top_logprobs=-1), "integer_below_min_value", "top_logprobs", ""),
    ("B47", chat(top_logprobs=1), None, "top_logprobs", "only allowed when 'logprobs' is enabled."),
    ("B47", chat(top_logprobs=1, logprobs=False), None, "top_logprobs", "only allowed when 'logprobs' is enabled."),
    ("B47", chat(logprobs=5), "invalid_type", "logprobs", "expected a boolean, but got an integer instead"),
    ("B48", chat(stream="yes"), "invalid_type", "stream", "expected a boolean, but got a string instead"),
    ("B48", chat(stream_options={"include_usage": True}), None, "stream_options", "only allowed when 'stream'"),
    ("B48", chat(stream=True, stream_options={"foo": 1}), "unknown_parameter", "stream_options.foo", ""),
    ("B48", chat(stream=True, stream_options=5), "invalid_type", "stream_options", ""),
    ("B49", chat(tool_choice="none"), "unsupported_parameter", "tool_choice", ""),
    ("B50", chat(tools=[]), "unsupported_parameter", "tools", "'tools' is not supported by lmx yet."),
    ("B53", chat(response_format={"type": "xml"}), "invalid_value", "response_format.type", "Invalid value: 'xml'"),
    ("B53", chat(response_format={}), "missing_required_parameter", "response_format.type", ""),
    ("B54", chat(foo=1), "unknown_parameter", "foo", "Unrecognized request argument supplied: foo"),
    ("B54", chat(**{"x" * 5000: 1}), "unknown_parameter", "x" * 100 + "…", "Unrecognized"),
    ("B55", chat(seed=2**70), "integer_above_max_value", "seed", ""),
    ("B55", chat(seed=-(2**63) - 1), "integer_below_min_value", "seed", ""),
    ("B55", chat(user="u" * 1_000_000), "string_above_max_length", "user", "maximum length 512"),
    ("B55", chat(metadata={str(i): "x" for i in range(1000)}), "object_above_max_length", "metadata", ""),
    ("B55", chat(metadata={"a": 5}), "invalid_type", "metadata", ""),
    ("B55", chat(metadata={"k" * 65: "v"}), "invalid_value", "metadata", "Invalid key"),
    ("B55", chat(reasoning_effort="max"), "unsupported_parameter", "reasoning_effort", ""),
    ("store", chat(store=True), "unsupported_parameter", "store", "'store' is not supported by lmx yet"),
    ("tier", chat(service_tier="gold"), "invalid_value", "service_tier", "'auto'"),
    ("echo", chat(echo=True), "unknown_parameter", "echo", ""),
    ("ours", chat(truncate="newest"), "invalid_value", "truncate", "Supported values are: 'never', 'oldest'."),
    ("ours", chat(priority="high"), "invalid_value", "priority", "Supported values are: 'interactive', 'batch'."),
    ("ours", chat(lmx_cache="yes"), "invalid_type", "lmx_cache", "expected a boolean"),
    ("ours", chat(min_tokens=-1), "integer_below_min_value", "min_tokens", ">= 0, but got -1"),
    ("ours", chat(min_tokens=9, max_tokens=8), "integer_above_max_value", "min_tokens", "<= 8, but got 9 instead."),
    ("ours", chat(typical_p=0), "decimal_below_min_value", "typical_p", "> 0"),
    ("ours", chat(top_n_sigma=-1), "decimal_below_min_value", "top_n_sigma", ">= 0"),
    ("ours", chat(xtc_probability=1.5), "decimal_above_max_value", "xtc_probability", "<= 1"),
    ("ours", chat(xtc_threshold=-1), "decimal_below_min_value", "xtc_threshold", ">= 0"),
    ("ours", chat(dry_multiplier=-1), "decimal_below_min_value", "dry_multiplier", ">= 0"),
    ("ours", chat(dry_base=0.5), "decimal_below_min_value", "dry_base", ">= 1"),
    ("ours", chat(dry_allowed_length=0), "integer_below_min_value", "dry_allowed_length", ">= 1"),
    ("ours", chat(dry_penalty_last_n=-2), "integer_below_min_value", "dry_penalty_last_n", ">= -1"),
    ("ours", chat(dry_sequence_breakers=[""]), "empty_string", "dry_sequence_breakers[0]", ""),
    ("ours", chat(dry_sequence_breakers=["x"] * 33), "array_above_max_length", "dry_sequence_breakers", "32"),
    *(
        (name, chat(**{name: {}}), "unsupported_parameter", name, f"'{name}' is not supported by lmx yet.")
        for name in (
            "audio",
            "function_call",
            "functions",
            "modalities",
            "moderation",
            "parallel_tool_calls",
            "prediction",
            "prompt_cache_options",
            "prompt_cache_retention",
            "verbosity",
            "web_search_options",
        )
    ),
]

COMPLETIONS: list[tuple[str, Any, str | None, str | None, str]] = [
    ("prompt", {"model": "m"}, "missing_required_parameter", "prompt", ""),
    ("prompt", completion(prompt=5), "invalid_type", "prompt", "one of a string or an array"),
    ("prompt", completion(prompt=[]), "empty_array", "prompt", ""),
    ("prompt", completion(prompt=["a", 1]), "invalid_type", "prompt", "only strings"),
    ("prompt", completion(prompt=["a"] * 129), "array_above_max_length", "prompt", "maximum length 128"),
    ("B79", completion(prompt=[[]]), "empty_array", "prompt[0]", ""),
    ("B79", completion(prompt=[-1]), "integer_below_min_value", "prompt[0]", ""),
    ("B79", completion(prompt=[1.5]), "invalid_type", "prompt[0]", ""),
    ("B79", completion(prompt=[[2**40]]), "integer_above_max_value", "prompt[0][0]", ""),
    ("best_of", completion(best_of=2), "unsupported_parameter", "best_of", "only 1 is."),
    ("best_of", completion(best_of=3, n=2), "unsupported_parameter", "best_of", "only 2 is."),
    ("n", completion(prompt=["a"] * 43, n=3), "integer_above_max_value", "n", "<= 2, but got 3"),
    ("best_of", completion(best_of=21), "integer_above_max_value", "best_of", ""),
    ("suffix", completion(suffix=""), "unsupported_parameter", "suffix", ""),
    ("logprobs", completion(logprobs=21), "integer_above_max_value", "logprobs", "<= 20"),
    ("logprobs", completion(logprobs=False), "invalid_type", "logprobs", ""),
    ("messages", completion(messages=HI), "unknown_parameter", "messages", ""),
    ("max_tokens", completion(max_tokens=0), "integer_below_min_value", "max_tokens", ">= 1, but got 0"),
    ("max_tokens", completion(max_tokens=-1, echo=True), "integer_below_min_value", "max_tokens", ""),
    ("min_tokens", completion(min_tokens=17), "integer_above_max_value", "min_tokens", "<= 16, but got 17"),
]


def named(rows: list[tuple[str, Any, str | None, str | None, str]]) -> list[Any]:
    return [pytest.param(*row[1:], id=f"{row[0]}-{row[3]}-{row[2]}-{i}"[:80]) for i, row in enumerate(rows)]


def assert_envelope(body: Any, code: str | None, param: str | None, text: str = "") -> None:
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert text in error["message"]
    assert len(error["message"]) < 500


@pytest.mark.parametrize(("sent", "code", "param", "text"), named(CHAT))
async def test_a_bad_field_of_a_chat_is_named(
    served: Served, sent: Any, code: str | None, param: str | None, text: str
) -> None:
    """A 400 says which field is wrong and how, in OpenAI's words."""
    status, _, body = await served.post("/v1/chat/completions", sent)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert_envelope(body, code, param, text)
    assert served.admission.messages == []


@pytest.mark.parametrize(("sent", "code", "param", "text"), named(COMPLETIONS))
async def test_a_bad_field_of_a_completion_is_named(
    served: Served, sent: Any, code: str | None, param: str | None, text: str
) -> None:
    """The same on the older route."""
    status, _, body = await served.post("/v1/completions", sent)
    assert status == 400
    assert_envelope(body, code, param, text)
    assert served.admission.messages == []


GOOD = json.dumps(chat()).encode()
RAW: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("B1", b'{"model": "m"', JSON, 400, "invalid_json"),
    ("B2", b"", JSON, 400, "invalid_json"),
    ("B3", b"null", JSON, 400, "invalid_type"),
    ("B4", b"\xef\xbb\xbf" + GOOD, JSON, 400, "invalid_json"),
    ("B5", GOOD.replace(b"Hi", b"\xff\xfe"), JSON, 400, "invalid_json"),
    ("B6", GOOD.replace(b"Hi", b"a\tb"), JSON, 400, "invalid_json"),
    ("B7", GOOD, {"Content-Type": "application/json; charset=bogus"}, 400, "unsupported_content_type"),
    ("B7", GOOD.decode().encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"}, 400, ""),
    ("B8", b'{"model":"m","temperature":NaN}', JSON, 400, "invalid_json"),
    ("B8", b'{"model":"m","temperature":-Infinity}', JSON, 400, "invalid_json"),
    ("B9", b'{"model":"m","temperature":1e999}', JSON, 400, "invalid_json"),
    ("B10", b'{"model":"m","seed":' + b"9" * 5000 + b"}", JSON, 400, "invalid_json"),
    ("B11", GOOD.replace(b"Hi", b"\\ud800"), JSON, 400, "invalid_json"),
    ("B11", GOOD.replace(b"Hi", b"\\udc00x"), JSON, 400, "invalid_json"),
    ("B14", b"[" * 1000 + b"]" * 1000, JSON, 400, "invalid_json"),
    ("B14", b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON, 400, "invalid_json"),
    ("B14", b'{"model":"m","messages":' + b"[" * 500 + b"]" * 500 + b"}", JSON, 400, "invalid_type"),
    ("B18", b"not gzip at all", JSON | {"Content-Encoding": "gzip"}, 400, ""),
    ("B18", gzip.compress(GOOD)[:-12], JSON | {"Content-Encoding": "gzip"}, 400, ""),
    ("B19", GOOD, JSON | {"Content-Encoding": "compress"}, 415, "unsupported_content_encoding"),
    ("B19", GOOD, JSON | {"Content-Encoding": "br"}, 415, "unsupported_content_encoding"),
    ("B21", GOOD, {"Content-Type": "text/plain"}, 400, "unsupported_content_type"),
    ("B21", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 400, "unsupported_content_type"),
    ("B21", GOOD, {"Content-Type": "multipart/form-data; boundary=x"}, 400, "unsupported_content_type"),
    ("B22", GOOD, {"Content-Type": "application/octet-stream"}, 400, "unsupported_content_type"),
]


@pytest.mark.parametrize(
    ("sent", "headers", "status", "code"), [pytest.param(*row[1:], id=f"{row[0]}-{i}") for i, row in enumerate(RAW)]
)
async def test_a_body_that_is_not_json_is_refused(
    served: Served, sent: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """Whatever bytes come, the answer is a 4xx in the envelope, never a 500."""
    async with served.http.post("/v1/chat/completions", data=sent, headers=headers) as reply:
        body = await reply.json()
        assert reply.status == status
    if code:
        assert body["error"]["code"] == code
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert served.admission.messages == []


ACCEPTED: list[tuple[str, bytes, dict[str, str]]] = [
    ("B12: NUL is text", GOOD.replace(b"Hi", b"a\\u0000b"), JSON),
    ("B13: the last key wins", GOOD[:-1] + b',"model":"m","temperature":9,"temperature":1}', JSON),
    ("B23: charset", GOOD, {"Content-Type": "application/json; charset=utf-8"}),
    ("B23: CHARSET", GOOD, {"Content-Type": "Application/JSON;charset=UTF-8"}),
    ("gzip", gzip.compress(GOOD), JSON | {"Content-Encoding": "gzip"}),
    ("a surrogate pair", GOOD.replace(b"Hi", b"\\ud83d\\ude00"), JSON),
]


@pytest.mark.parametrize(("sent", "headers"), [pytest.param(*row[1:], id=row[0]) for row in ACCEPTED])
async def test_what_looks_odd_but_is_right_is_served(served: Served, sent: bytes, headers: dict[str, str]) -> None:
    """Strictness refuses nothing that is valid."""
    async with served.http.post("/v1/chat/completions", data=sent, headers=headers) as reply:
        assert reply.status == 200


async def test_an_unknown_model_is_404_before_other_faults(served: Served) -> None:
    """B26: the model is looked up first; its name is echoed, but not at any length."""
    status, _, body = await served.post("/v1/chat/completions", {"model": "x" * 10_000, "temperature": "hot"})
    assert status == 404
    assert_envelope(body, "model_not_found", "model", "does not exist or you do not have access to it.")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(serve: Serve, chunked: bool) -> None:
    """B15, B16: with and without Content-Length, reading stops at the limit."""
    served = await serve(max_body_bytes=1000)

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 100

    data = pieces() if chunked else b" " * 2000
    async with served.http.post("/v1/chat/completions", data=data, headers=JSON) as reply:
        assert reply.status == 413
        assert_envelope(await reply.json(), "request_too_large", None)


async def test_a_gzip_bomb_is_413(serve: Serve) -> None:
    """B17: what counts is the unpacked size."""
    served = await serve(max_body_bytes=1_000_000)
    bomb = gzip.compress(b" " * 100_000_000)
    headers = JSON | {"Content-Encoding": "gzip"}
    async with served.http.post("/v1/chat/completions", data=bomb, headers=headers) as reply:
        assert reply.status == 413


async def test_a_slow_body_is_408(serve: Serve) -> None:
    """B58: a client that never ends its body is told so, and let go."""
    served = await serve(body_seconds=0.05)
    reader, writer = await served.connect()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 10\r\n\r\n{")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")


async def test_many_tiny_chunks_are_served(served: Served) -> None:
    """B20: 20,000 chunks are no attack that works."""

    async def pieces() -> Any:
        yield GOOD[:-1]
        for _ in range(20_000):
            yield b" "
        yield b"}"

    async with served.http.post("/v1/chat/completions", data=pieces(), headers=JSON) as reply:
        assert reply.status == 200


MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED, ids=range(len(MALFORMED)))
async def test_what_the_parser_refuses_is_in_the_envelope_too(served: Served, sent: bytes) -> None:
    """B62, B64, B68: not HTTP, or HTTP that smuggles: 400, an id, the connection closed after one answer."""
    reader, writer = await served.connect()
    writer.write(sent)
    answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"x-request-id: req_" in head
    assert_envelope(json.loads(body), "bad_request", None)


async def test_the_message_of_an_image_part_says_what_is_supported(served: Served) -> None:
    """B98: nothing is fetched, whatever the URL."""
    part = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    status, _, body = await served.post("/v1/chat/completions", message(role="user", content=[part]))
    assert status == 400
    assert "passwd" not in body["error"]["message"]
