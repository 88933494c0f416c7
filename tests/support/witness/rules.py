"""What every answer must look like: OpenAI's own schemas by route, its error envelope, Anthropic's for its routes."""

import gzip
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from tests.support.witness.wire import Asked, Head

Json = Any
Report = Callable[[str], None]
MAX_ERROR = 4096
"""Bytes of an error's body."""
ERROR_FIELDS = {"message", "type", "param", "code"}
ANTHROPIC = re.compile(r"/v1/messages(/|$)")
RESPONSES = re.compile(r"/v1/responses(/|$)")

REPLIES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (method, re.compile(path), component)
    for method, path, component in (
        ("POST", r"/v1/chat/completions", "CreateChatCompletionResponse"),
        ("POST", r"/v1/completions", "CreateCompletionResponse"),
        ("POST", r"/v1/embeddings", "CreateEmbeddingResponse"),
        ("POST", r"/v1/responses", "Response"),
        ("GET", r"/v1/responses/[^/]+", "Response"),
        ("POST", r"/v1/responses/[^/]+/cancel", "Response"),
        ("GET", r"/v1/models", "ListModelsResponse"),
        ("GET", r"/v1/models/.+", "Model"),
    )
)
CHUNKS: Mapping[str, str] = {
    "/v1/chat/completions": "CreateChatCompletionStreamResponse",
    "/v1/completions": "CreateCompletionResponse",
}
LAST: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    (RESPONSES, frozenset({"response.completed", "response.incomplete", "response.failed", "error"})),
    (ANTHROPIC, frozenset({"message_stop", "error"})),
)
"""Types of the event that a stream ends with; all others end with [DONE]."""
VERDICTS = frozenset({"/readyz", "/startupz", "/admin/health"})
"""Their 503 is an answer, not an error: it says what is not ready, in the words of the 200."""


def _nulls_of_completions(schemas: Json) -> None:
    """OpenAI's schema forbids the nulls that OpenAI itself sends in the chunks of /v1/completions."""
    fields = schemas["CreateCompletionResponse"]["properties"]
    fields["choices"]["items"]["properties"]["finish_reason"] = {"enum": ["stop", "length", None]}
    fields["usage"] = {"anyOf": [fields["usage"], {"type": "null"}]}


def _first_of_a_prompt(schemas: Json) -> None:
    """With `echo`, nothing comes before a prompt's first token: OpenAI tells null for it, and its schema does not."""
    choice = schemas["CreateCompletionResponse"]["properties"]["choices"]["items"]
    fields = choice["properties"]["logprobs"]["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        fields[name]["items"] = {"anyOf": [fields[name]["items"], {"type": "null"}]}


def _base64(schemas: Json) -> None:
    """`encoding_format: base64` gives a string, which OpenAI's clients ask for by default and its schema forgets."""
    fields = schemas["Embedding"]["properties"]
    fields["embedding"] = {"anyOf": [fields["embedding"], {"type": "string"}]}


Change = Callable[[Json], None]
EXCEPTIONS: tuple[Change, ...] = (_first_of_a_prompt, _base64)
"""Where answers may differ from OpenAI's schemas; each one says why. Fields that lmx adds (`reasoning_content`,
`lmx_cache`, `lmx_truncated`, a model's state) need none: OpenAI's schemas are open."""
EXCEPTIONS_OF_CHUNKS: tuple[Change, ...] = (_nulls_of_completions,)


class Judge:
    """Reads one answer, and reports each thing that is wrong with it."""

    def __init__(self, asked: Asked, head: Head, report: Report) -> None:
        self._asked = asked
        self._head = head
        self._report = report
        self._data = bytearray()
        self._last = ""
        self._streams = head.content_type == "text/event-stream"
        if not head.headers.get("x-request-id"):
            report("no x-request-id")

    def feed(self, data: bytes) -> None:
        self._data += data
        if self._streams:
            *events, rest = bytes(self._data).split(b"\n\n")
            self._data = bytearray(rest)
            for event in events:
                self._read_event(event.decode())

    def end(self, whole: bool) -> None:
        if self._asked.method == "HEAD":
            return
        if self._streams:
            if whole and self._last not in _last_of(self._asked.path):
                self._report(f"a stream that ends with {self._last[:60]!r}")
        elif self._head.status >= 400:
            self._read_error()
        elif self._head.status == 200 and (component := _component(self._asked)):
            self._check(component, self._parsed())

    def _read_event(self, event: str) -> None:
        lines = [line for line in event.split("\n") if not line.startswith(":")]
        names = [line[7:] for line in lines if line.startswith("event: ")]
        told = [line[6:] for line in lines if line.startswith("data: ")]
        if not lines:
            return
        if len(told) != 1 or not told[0] or len(names) + 1 != len(lines):
            self._report(f"not an event that OpenAI's clients can read: {event[:100]!r}")
        elif told[0] == "[DONE]":
            self._last = "[DONE]"
        else:
            value = msgspec.json.decode(told[0])
            self._last = value.get("type", "")
            if names and names != [self._last]:
                self._report(f"event {names} tells {self._last!r}")
            self._check_chunk(value)

    def _check_chunk(self, value: Json) -> None:
        path = self._asked.path
        if ANTHROPIC.match(path):
            if self._last == "error":
                self._check_anthropic(value)
        elif RESPONSES.match(path):
            self._check(_events().get(self._last, "ResponseStreamEvent"), value)
        elif "error" in value:
            self._check_openai(value)
        else:
            self._check(CHUNKS[path], value, chunk=True)

    def _read_error(self) -> None:
        if len(self._data) > MAX_ERROR:
            self._report(f"an error of {len(self._data)} bytes")
        value = self._parsed()
        if self._head.status == 503 and self._asked.path in VERDICTS and "error" not in value:
            return
        anthropics = ANTHROPIC.match(self._asked.path) or "request-id" in self._head.headers
        (self._check_anthropic if anthropics else self._check_openai)(value)

    def _check_openai(self, value: Json) -> None:
        if self._check("ErrorResponse", value) and set(value) | set(value["error"]) != ERROR_FIELDS | {"error"}:
            self._report(f"more or less than the error's envelope: {str(value)[:200]}")

    def _check_anthropic(self, value: Json) -> None:
        error = value.get("error")
        told = isinstance(error, dict) and all(isinstance(error.get(key), str) for key in ("type", "message"))
        if value.get("type") != "error" or not told:
            self._report(f"not Anthropic's error: {str(value)[:200]}")

    def _parsed(self) -> Json:
        if self._head.content_type != "application/json":
            self._report(f"JSON is expected, and it is {self._head.content_type!r}")
            return {}
        data = bytes(self._data)
        return msgspec.json.decode(gzip.decompress(data) if "content-encoding" in self._head.headers else data)

    def _check(self, component: str, value: Json, *, chunk: bool = False) -> bool:
        validator = _validator(component, chunk)
        if not (valid := validator.is_valid(value)):
            fault = next(iter(validator.iter_errors(value)))
            where = "".join(f"[{step!r}]" for step in fault.instance_path)
            self._report(f"not a {component}: {where} {fault.message[:300]}; {str(value)[:300]}")
        return valid


def _component(asked: Asked) -> str | None:
    fitting = (name for method, path, name in REPLIES if method == asked.method and path.fullmatch(asked.path))
    return next(fitting, None)


def _last_of(path: str) -> frozenset[str]:
    return next((types for pattern, types in LAST if pattern.match(path)), frozenset({"[DONE]"}))


@cache
def spec(chunk: bool = False) -> Json:
    """OpenAI's own, but for the exceptions."""
    found = msgspec.json.decode((Path(__file__).parents[2] / "data/openai-subset.json").read_bytes())
    for change in EXCEPTIONS + (EXCEPTIONS_OF_CHUNKS if chunk else ()):
        change(found["components"]["schemas"])
    return found


@cache
def _validator(component: str, chunk: bool) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**spec(chunk), "$ref": f"#/components/schemas/{component}"})


@cache
def _events() -> Mapping[str, str]:
    """Component by the type of an event of /v1/responses."""
    schemas = spec()["components"]["schemas"]
    events = {name: schema.get("properties", {}) for name, schema in schemas.items() if name.endswith("Event")}
    kinds = ((name, fields.get("type", {}).get("enum", ())) for name, fields in events.items())
    return {kind[0]: name for name, kind in kinds if len(kind) == 1}
