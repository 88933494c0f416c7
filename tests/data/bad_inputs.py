"""Bad inputs, and the answer that each gets: RELIABILITY.md, section 3. A row is named after its line there."""

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

HI = [{"role": "user", "content": "Hi"}]
JSON = {"Content-Type": "application/json"}
CHAT, COMPLETIONS, EMBEDDINGS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"
KEY = "sk-inference-0123456789-xMYA"
ADMIN_KEY = "admin-0123456789-key"
Row = tuple[str, Any, str | None, str | None, str]
"""Which, what is sent, then the code, the param and a part of the message of the 400 that it gets."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Something that is wrong beside its fields."""

    name: str
    path: str = CHAT
    method: str = "POST"
    sent: bytes = b""
    headers: dict[str, str] | list[tuple[str, str]] = field(default_factory=lambda: JSON)
    status: int = 400
    code: str | None
    param: str | None = None
    text: str = ""
    told: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, besides those that every answer has."""
    locked: bool = False
    """Sent to a server that asks for keys."""
    limit: int = 0
    """Bytes that a body may have there; 0 = as many as usual."""


def chat(**fields: Any) -> Any:
    return {"model": "m", "messages": HI, **fields}


def message(**fields: Any) -> Any:
    return {"model": "m", "messages": [fields]}


def messages(*given: Any) -> Any:
    return {"model": "m", "messages": [*HI, *given]}


def completion(**fields: Any) -> Any:
    return {"model": "m", "prompt": "Hi", **fields}


def embedding(**fields: Any) -> Any:
    return {"model": "m", "input": "Hi", **fields}


def function(**fields: Any) -> Any:
    return {"type": "function", "function": {"name": "f", **fields}}


def called(*ids: str) -> Any:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "tool_calls": calls}


def deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


GOOD = json.dumps(chat()).encode()


def form(schema: Any) -> Any:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return {"type": "object", "properties": {"a": value}}


CHATS: list[Row] = [
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
        message(role="user", content=[{"type": "hologram"}]),
        "invalid_value",
        "messages[0].content[0].type",
        "Invalid value: 'hologram'.",
    ),
    (
        "B33",
        message(role="user", content=[{"type": "text"}]),
        "missing_required_parameter",
        "messages[0].content[0].text",
        "",
    ),
    ("B33", message(role="user", content=[{"type": "input_audio"}]), None, "messages[0].content[0]", "input_audio"),
    (
        "B98",
        message(role="user", content=[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
        "invalid_image",
        "messages[0].content[0]",
        "expected a data: URL",
    ),
    (
        "B34",
        messages({"role": "tool", "tool_call_id": "a", "content": "x"}),
        None,
        "messages.[1].role",
        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'",
    ),
    ("B34", messages({"role": "tool", "content": "x"}), "missing_required_parameter", "messages[1].tool_call_id", ""),
    (
        "B34",
        messages(called("a"), {"role": "tool", "tool_call_id": "b", "content": "x"}),
        None,
        "messages.[2].tool_call_id",
        "not found in 'tool_calls' of previous message",
    ),
    ("B35", messages(called("a"), *HI), None, "messages.[2].role", "An assistant message with 'tool_calls' must be"),
    ("B35", messages(called("a")), None, "messages.[1].role", "did not have response messages: a"),
    ("B35", messages(called("a" * 500)), None, "messages.[1].role", "must be followed by tool messages"),
    (
        "B36",
        messages(called(*map(str, range(129)))),
        "array_above_max_length",
        "messages[1].tool_calls",
        "Expected an array with maximum length 128, but got an array with length 129 instead.",
    ),
    (
        "B36",
        chat(tools=[function(name=f"f{i}") for i in range(158)]),
        "array_above_max_length",
        "tools",
        "Expected an array with maximum length 128, but got an array with length 158 instead.",
    ),
    (
        "B36",
        message(role="assistant", content="x", tool_calls=[{}]),
        "missing_required_parameter",
        "messages[0].tool_calls[0].type",
        "",
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
    ("B39", chat(top_k=2**31), "integer_above_max_value", "top_k", "<= 2147483647, but got 2147483648"),
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
    *(
        ("B49", chat(tool_choice=choice), None, "tool_choice", "'tool_choice' is only allowed when 'tools' are")
        for choice in ("none", "auto", "required", {"type": "function", "function": {"name": "f"}})
    ),
    ("B50", chat(tools=[]), "empty_array", "tools", "empty array. Expected an array with minimum length 1"),
    (
        "B51",
        chat(tools=[function()], tool_choice={"type": "function", "function": {"name": "g"}}),
        "invalid_value",
        "tool_choice",
        "Tool choice 'g' not found in 'tools' parameter.",
    ),
    ("B51", chat(tools=[function()], tool_choice="sometimes"), "invalid_value", "tool_choice", "'sometimes'"),
    ("B51", chat(tools=[function()], tool_choice=42), "invalid_type", "tool_choice", "but got an integer instead"),
    (
        "B51",
        chat(tools=[function()], tool_choice={"type": "function", "function": {"name": "g" * 500}}),
        "invalid_value",
        "tool_choice",
        "not found in 'tools'",
    ),
    ("B52", chat(tools=[function(name="a b")]), "invalid_value", "tools[0].function.name", "does not match pattern"),
    ("B52", chat(tools=[function(name="x" * 65)]), "string_above_max_length", "tools[0].function.name", "length 65"),
    ("B52", chat(tools=[function(name="")]), "empty_string", "tools[0].function.name", ""),
    ("B52", chat(tools=[function(), function()]), "invalid_value", "tools[1].function.name", "named 'f'"),
    (
        "B52",
        chat(tools=[function(description="x" * 1025)]),
        "string_above_max_length",
        "tools[0].function.description",
        "string too long. Expected a string with maximum length 1024, but got a string with length 1025 instead.",
    ),
    ("B52", chat(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function", ""),
    ("B52", chat(tools=[5]), "invalid_type", "tools[0]", "expected an object"),
    ("B53", chat(response_format={"type": "xml"}), "invalid_value", "response_format.type", "Invalid value: 'xml'"),
    ("B53", chat(response_format={}), "missing_required_parameter", "response_format.type", ""),
    ("B14", chat(messages=deep(500)), "invalid_type", "messages[0]", "expected an object, but got an array"),
    ("only", chat(modalities=["text", "audio"]), "unsupported_parameter", "modalities", "only ['text'] is"),
    ("only", chat(verbosity="low"), "unsupported_parameter", "verbosity", "only 'medium' is"),
    ("only", chat(prompt_cache_retention="24h"), "unsupported_parameter", "prompt_cache_retention", "'in_memory'"),
    ("needs", chat(parallel_tool_calls=False), None, "parallel_tool_calls", "when 'tools' are specified"),
    ("B53", chat(response_format="json"), "invalid_type", "response_format", "expected an object"),
    (
        "B53",
        chat(response_format={"type": "json_schema"}),
        "missing_required_parameter",
        "response_format.json_schema",
        "Missing required parameter: 'response_format.json_schema'.",
    ),
    (
        "B53",
        chat(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": {"type": "object", "properties": {"a": {}}}},
            }
        ),
        None,
        "response_format",
        "In context=(), 'additionalProperties' is required to be supplied and to be false.",
    ),
    ("B70", chat(grammar="root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000), "invalid_constraint", "grammar", "64"),
    *(
        ("B71", form(schema), "invalid_constraint", "response_format", name)
        for name, schema in (
            ("maxLength", {"type": "string", "maxLength": 10**9}),
            ("minItems", {"type": "array", "minItems": 10**9}),
        )
    ),
    ("B72", form(nested(400)), "invalid_constraint", "response_format", "nested more than 64 levels"),
    ("B72", form({"enum": list(range(20_000))}), "invalid_constraint", "response_format", "more than 1000 values"),
    ("B73", form({"$ref": "http://169.254.169.254/x"}), "invalid_constraint", "response_format", "'$ref'"),
    ("B73", form({"items": {"$ref": "file:///etc/passwd"}}), "invalid_constraint", "response_format", "'$ref'"),
    ("B74", chat(regex="(" * 2000 + "a" + ")" * 2000), "invalid_constraint", "regex", "64 levels"),
    ("B75", form(True), "invalid_type", "response_format.json_schema.schema", "expected an object"),
    ("B75", form(123), "invalid_type", "response_format.json_schema.schema", "expected an object"),
    (
        "B76",
        chat(tools=[function(parameters=nested(400))]),
        "invalid_function_parameters",
        "tools[0].function.parameters",
        "nested more than 64 levels",
    ),
    ("B54", chat(foo=1), "unknown_parameter", "foo", "Unrecognized request argument supplied: foo"),
    ("B54", chat(**{"x" * 5000: 1}), "unknown_parameter", "x" * 100 + "…", "Unrecognized"),
    ("B55", chat(seed=2**70), "integer_above_max_value", "seed", ""),
    ("B55", chat(seed=-(2**63) - 1), "integer_below_min_value", "seed", ""),
    ("B55", chat(user="u" * 1_000_000), "string_above_max_length", "user", "maximum length 512"),
    ("B55", chat(metadata={str(i): "x" for i in range(1000)}), "object_above_max_length", "metadata", ""),
    ("B55", chat(metadata={"a": 5}), "invalid_type", "metadata", ""),
    ("B55", chat(metadata={"k" * 65: "v"}), "invalid_value", "metadata", "Invalid key"),
    ("B55", chat(reasoning_effort="huge"), "invalid_value", "reasoning_effort", "'huge'"),
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
            "moderation",
            "prediction",
            "prompt_cache_options",
            "web_search_options",
        )
    ),
]

TEXTS: list[Row] = [
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


VECTORS: list[Row] = [
    ("B79", embedding(input=[-1]), "integer_below_min_value", "input[0]", ""),
    ("B79", embedding(input=[[]]), "empty_array", "input[0]", ""),
    ("B80", embedding(input=[]), "empty_array", "input", ""),
    ("B80", embedding(input=""), "empty_string", "input", ""),
    ("B80", embedding(input=[""]), "empty_string", "input[0]", ""),
    ("B80", embedding(input=["a"] * 2049), "array_above_max_length", "input", "maximum length 2048"),
    ("B80", embedding(dimensions=0), "integer_below_min_value", "dimensions", ">= 1, but got 0"),
    ("B80", embedding(encoding_format="hex"), "invalid_value", "encoding_format", "'float', 'base64'"),
]

# What is sent, with which headers, and the status and code that it gets.
BODIES: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("B1", b'{"model": "m"', JSON, 400, "invalid_json"),
    ("B2", b"", JSON, 400, "invalid_json"),
    ("B3", b"null", JSON, 400, "invalid_type"),
    ("B4", b"\xef\xbb\xbf" + GOOD, JSON, 400, "invalid_json"),
    ("B5", GOOD.replace(b"Hi", b"\xff\xfe"), JSON, 400, "invalid_json"),
    ("B6", GOOD.replace(b"Hi", b"a\tb"), JSON, 400, "invalid_json"),
    ("B7", GOOD, {"Content-Type": "application/json; charset=bogus"}, 400, "unsupported_content_type"),
    (
        "B7",
        GOOD.decode().encode("utf-16"),
        {"Content-Type": "application/json; charset=utf-16"},
        400,
        "unsupported_content_type",
    ),
    ("B8", b'{"model":"m","temperature":NaN}', JSON, 400, "invalid_json"),
    ("B8", b'{"model":"m","temperature":-Infinity}', JSON, 400, "invalid_json"),
    ("B9", b'{"model":"m","temperature":1e999}', JSON, 400, "invalid_json"),
    ("B10", b'{"model":"m","seed":' + b"9" * 5000 + b"}", JSON, 400, "invalid_json"),
    ("B11", GOOD.replace(b"Hi", b"\\ud800"), JSON, 400, "invalid_json"),
    ("B11", GOOD.replace(b"Hi", b"\\udc00x"), JSON, 400, "invalid_json"),
    ("B14", b"[" * 1000 + b"]" * 1000, JSON, 400, "invalid_json"),
    ("B14", b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON, 400, "invalid_json"),
    ("B18", b"not gzip at all", JSON | {"Content-Encoding": "gzip"}, 400, "invalid_body"),
    ("B18", gzip.compress(GOOD)[:-12], JSON | {"Content-Encoding": "gzip"}, 400, "invalid_json"),
    ("B19", GOOD, JSON | {"Content-Encoding": "compress"}, 415, "unsupported_content_encoding"),
    ("B19", GOOD, JSON | {"Content-Encoding": "br"}, 415, "unsupported_content_encoding"),
    ("B21", GOOD, {"Content-Type": "text/plain"}, 400, "unsupported_content_type"),
    ("B21", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 400, "unsupported_content_type"),
    ("B21", GOOD, {"Content-Type": "multipart/form-data; boundary=x"}, 400, "unsupported_content_type"),
    ("B22", GOOD, {"Content-Type": "application/octet-stream"}, 400, "unsupported_content_type"),
]


MISSING: dict[str, Any] = {"method": "GET", "headers": {}, "status": 404}


def get(name: str, path: str, code: str | None, **more: Any) -> Request:
    return Request(name=name, path=path, code=code, **MISSING | more)


def with_key(name: str, headers: Any, code: str | None, status: int = 401, path: str = MODELS, **more: Any) -> Request:
    return get(name, path, code, headers=headers, status=status, locked=True, **more)


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


HUGE = b"{" + b" " * 2000 + b"}"
ORDER: tuple[tuple[str, bytes, dict[str, str], int, str | None, str | None], ...] = (
    ("size before the key", HUGE, {"Content-Type": "text/plain"}, 413, "request_too_large", None),
    ("key before the content type", b"{", {"Content-Type": "text/plain"}, 401, None, None),
    (
        "content type before JSON",
        b"{",
        bearer(KEY) | {"Content-Type": "text/plain"},
        400,
        "unsupported_content_type",
        None,
    ),
    ("JSON before the model", b"{", bearer(KEY) | JSON, 400, "invalid_json", None),
    ("model before fields", b'{"model": "nope", "n": 0}', bearer(KEY) | JSON, 404, "model_not_found", "model"),
)
"""Each is wrong in all that comes later too; bodies may have 1,000 bytes here."""

REQUESTS: list[Request] = [
    *(Request(name=name, sent=sent, headers=headers, status=status, code=code)
      for name, sent, headers, status, code in BODIES),
    *(Request(name=f"order: {name}", sent=sent, headers=headers, status=status, code=code, param=param, locked=True,
              limit=1000) for name, sent, headers, status, code, param in ORDER),
    Request(name="B15", sent=b" " * 2000, status=413, code="request_too_large", limit=1000),
    Request(name="B26", sent=b'{"model": "' + b"x" * 10_000 + b'", "temperature": "hot"}', status=404,
            code="model_not_found", param="model", text="does not exist or you do not have access to it."),
    get("B44", "/v1/models/../../etc/passwd", "model_not_found", param="model"),
    get("B44", "/v1/models/%2e%2e%2f%2e%2e%2fetc/passwd", "model_not_found", param="model"),
    get("B45", "/v1/models/%00", "model_not_found", param="model"),
    get("B45", "/v1/models/%ff", "model_not_found", param="model"),
    get("B46", "/v1/models/org/nope", "model_not_found", param="model", text="`org/nope`"),
    get("B46", "/v1/models/" + "x" * 6000, "model_not_found", param="model"),
    get("B61", "/healthz", "host_not_allowed", status=421, headers={"Host": "evil.com"}),
    get("B66", CHAT, "method_not_allowed", status=405, told={"Allow": "POST"}),
    get("B66", "/v1/nope", "unknown_url", text="Invalid URL (GET /v1/nope)"),
    get("B66", "/v1/nope", "unknown_url", method="POST", text="Invalid URL (POST /v1/nope)"),
    get("B66", MODELS, "method_not_allowed", method="TRACE", status=405, told={"Allow": "GET,HEAD"}),
    get("B66", MODELS, "method_not_allowed", method="DELETE", status=405, told={"Allow": "GET,HEAD"}),
    get("B66", "/" + "x" * 5000, "unknown_url"),
    *(get("B67", path, "unknown_url", method="POST") for path in (CHAT + "/", "/" + CHAT, "/V1/chat/completions")),
    *(with_key("B67", {}, None, path=path) for path in (CHAT + "/", "/" + CHAT, "/V1/chat/completions")),
    with_key("B81", {}, None, text="You didn't provide an API key. "),
    with_key("B82", bearer("sk-wrong-0123456789-zzzz"), "invalid_api_key", text="provided: sk-…zzzz."),
    *(with_key("B82", {"Authorization": value}, "invalid_api_key") for value in (
        "Bearer", f"Basic {KEY}", KEY, f"bearer {KEY}x", "Bearer sk-inference 0123456789-xMYA", "Bearer sk-ключ",
        "Bearer " + "k" * 8000)),
    with_key("B82", [("Authorization", f"Bearer {KEY}")] * 2, "invalid_api_key", text="more than one"),
    with_key("B82", {}, None, path=f"{MODELS}?api_key={KEY}"),
    with_key("B83", bearer(KEY), "insufficient_permissions", 403, "/admin/machines", text="the admin key"),
    with_key("B83", bearer(KEY), "insufficient_permissions", 403, "/metrics"),
    with_key("B83", bearer(ADMIN_KEY), "insufficient_permissions", 403, text="an inference key"),
    *(with_key("B94", {name: value}, None, path="/admin/machines") for name, value in (
        ("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"))),
    *(Request(name="B95", headers={"Origin": origin}, status=403, code="origin_not_allowed")
      for origin in ("http://localhost.evil.com", "null")),
    with_key("JWT", bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."), "invalid_api_key"),
    with_key("JWT", bearer("e30." * 1000), "invalid_api_key"),
]  # fmt: skip

# What is accepted though it looks odd, by its body and headers.
ACCEPTED: list[tuple[str, bytes, dict[str, str]]] = [
    ("B12: NUL is text", GOOD.replace(b"Hi", b"a\\u0000b"), JSON),
    ("B13: the last key wins", GOOD[:-1] + b',"model":"m","temperature":9,"temperature":1}', JSON),
    ("B23: charset", GOOD, {"Content-Type": "application/json; charset=utf-8"}),
    ("B23: CHARSET", GOOD, {"Content-Type": "Application/JSON;charset=UTF-8"}),
    ("B82: scheme", GOOD, JSON | {"Authorization": f"bEARER {KEY}"}),
    ("B82: x-api-key", GOOD, JSON | {"x-api-key": KEY}),
    ("gzip", gzip.compress(GOOD), JSON | {"Content-Encoding": "gzip"}),
    ("a surrogate pair", GOOD.replace(b"Hi", b"\\ud83d\\ude00"), JSON),
]

HOST = b"Host: localhost"


def head(*lines: bytes, method: bytes = b"GET", path: bytes = b"/healthz", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b" ".join((method, path, version)), HOST, *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return head(*lines, method=b"POST", path=CHAT.encode()) + body


END = b"0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Bytes that no client library sends, the status they get, and its code. The connection closes after one answer.
WIRE: list[tuple[str, bytes, int, str]] = [
    ("B61 no host", b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_request"),
    ("B61 two hosts", head(b"Host: localhost"), 400, "bad_request"),
    ("B62 length and chunks", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=END + SMUGGLED), 400,
     "bad_request"),
    *((f"B62 {value.decode()}", post(b"Transfer-Encoding: " + value, body=END + SMUGGLED), 400, "bad_request")
      for value in (b"chunked, identity", b"xchunked", b"\x0bchunked", b"chunked, chunked")),
    ("B62 encoded twice", post(*[b"Transfer-Encoding: chunked"] * 2, body=END + SMUGGLED), 400, "bad_request"),
    ("B62 two lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"{}" + SMUGGLED), 400, "bad_request"),
    *((f"B62 length {value.decode()}", post(b"Content-Length: " + value, body=SMUGGLED), 400, "bad_request")
      for value in (b"-1", b"+2", b"1e30", b"0x5", b"9" * 40)),
    ("B62 obs-fold", head(b"X: a", b" b"), 400, "bad_request"),
    ("B62 a space before the colon", head(b"Name : a"), 400, "bad_request"),
    ("B62 a space in a name", head(b"A B: c"), 400, "bad_request"),
    *((f"B62 {value!r} in a value", head(b"X: a" + value + b"b"), 400, "bad_request") for value in (b"\0", b"\r")),
    ("B64 9 KiB of a header", head(b"X: " + b"x" * 9000), 400, "bad_request"),
    ("B64 2,000 headers", head(*(b"X%d: x" % number for number in range(2000))), 400, "bad_request"),
    ("B64 a target of 10 KiB", head(path=b"/" + b"x" * 10_000), 400, "bad_request"),
    ("B68 TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
    ("B68 HTTP/2 itself", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    ("H18 HTTP/2.0", head(version=b"HTTP/2.0"), 505, "http_version_not_supported"),
    ("H18 HTTP/3.0", head(version=b"HTTP/3.0"), 400, "bad_request"),
]  # fmt: skip

HOSTILE = "tests/engine/test_constraint_hostile.py"
# Numbers that other tests are about: the file and the name of each.
ELSEWHERE: dict[str, str] = {
    "B16": "tests/http/test_bad_inputs.py::test_a_body_without_a_length_stops_at_the_limit",
    "B17": "tests/http/test_bad_inputs.py::test_a_gzip_bomb_is_413",
    "B20": "tests/http/test_bad_inputs.py::test_many_tiny_chunks_are_served",
    "B27": "tests/http/test_keys.py::test_each_role_has_its_routes",
    "B41": "tests/e2e/test_openai_client.py::test_errors_are_the_clients_own_exceptions",
    "B56": "tests/http/test_wire.py::test_headers_must_end_in_time",
    "B57": "tests/http/test_wire.py::test_headers_must_end_in_time",
    "B58": "tests/http/test_wire.py::test_a_slow_body_is_408",
    "B59": "tests/http/test_wire.py::test_connections_that_say_nothing_are_closed",
    "B60": "tests/http/test_browser.py::test_one_host_is_named_once",
    "B63": "tests/http/test_routes.py::test_every_answer_has_an_id",
    "B65": "tests/http/test_wire.py::test_what_is_expected_is_known_or_refused",
    "B69": "tests/http/test_wire.py::test_pipelined_requests_are_answered_in_order",
    "B77": f"{HOSTILE}::test_a_mask_never_takes_seconds",
    "B78": f"{HOSTILE}::test_a_grammar_that_cannot_be_honoured_is_refused_in_words",
    "B84": "tests/http/test_keys.py::test_time_does_not_tell_how_much_of_a_key_was_right",
    "B96": "tests/http/test_bad_inputs.py::test_what_is_sent_cannot_forge_the_log",
    "B97": "tests/e2e/test_openai_client.py::test_words_of_the_template_are_text",
    "B99": "tests/chaos/real/test_mixed_inputs.py::test_b99_all_that_is_valid_is_answered",
    "B100": "tests/http/test_terms.py::test_a_duplicate_is_not_to_be_sent_again",
}
# JSON web tokens come later; until then such a token is a wrong key.
LATER = frozenset(f"B{number}" for number in range(85, 94))
