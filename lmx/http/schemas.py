"""What clients may send to the OpenAI routes. A field that lmx does not honour is refused by name, never ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import Meta, Struct

from lmx.http.errors import ApiError, model_not_found
from lmx.http.fields import convert, unsupported
from lmx.http.gateway import Gateway
from lmx.machines.types import Chat, Generation, Prompt, Sampling, Text, Tokens

C = TypeVar("C", bound="Common")

Role = Literal["system", "developer", "user", "assistant", "tool"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
FormatType = Literal["text", "json_object", "json_schema"]
INT64 = 2**63

Count = Annotated[int, Meta(ge=1, le=INT64 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Label = Annotated[str, Meta(max_length=512)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MAX_PROMPTS = 128
COMPLETION_TOKENS = 16
"""OpenAI's default of /v1/completions."""


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted; lmx never pads its chunks."""


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True):
    type: FormatType
    json_schema: Any = None


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Role
    content: str | Annotated[list[TextPart], Meta(min_length=1)]
    name: Label | None = None
    tool_call_id: Label | None = None

    def plain(self) -> dict[str, str]:
        """As chat templates read it: one string, and OpenAI's newer name of `system` undone."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        given = {"name": self.name, "tool_call_id": self.tool_call_id}
        labels = {field: value for field, value in given.items() if value is not None}
        return {"role": "system" if self.role == "developer" else self.role, "content": text, **labels}


class Common(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of both routes. None = not given, as null is."""

    model: str
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.1, le=2)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    user: Label | None = None
    """A label without effect, as are metadata, service_tier, safety_identifier and prompt_cache_key."""

    def neutral(self) -> Mapping[str, Any]:
        """The only values that lmx can honour of fields that it does not implement."""
        return {"n": 1}

    def check(self) -> None:
        """What no single field can tell."""
        if self.stream_options is not None and not self.stream:
            raise ApiError(
                400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", None, "stream_options"
            )
        for name, value in self.neutral().items():
            given = getattr(self, name)
            if given is not None and given != value:
                raise unsupported(name, "" if value is None else f": only {value!r} is")

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def generation(self, prompt: Prompt, max_tokens: int | None) -> Generation:
        given = {name: getattr(self, name) for name in Sampling.__struct_fields__}
        return Generation(
            prompt=prompt,
            max_tokens=max_tokens,
            sampling=Sampling(**{name: value for name, value in given.items() if value is not None}),
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            ignore_eos=bool(self.ignore_eos),
        )


class ChatRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    store: bool | None = None
    metadata: Annotated[dict[MetadataKey, Label], Meta(max_length=16)] | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_key: Label | None = None

    def neutral(self) -> Mapping[str, Any]:
        return {"n": 1, "logprobs": False, "top_logprobs": None, "store": False}

    def check(self) -> None:
        super().check()
        if self.response_format is not None and self.response_format.type != "text":
            raise unsupported("response_format", f" with type '{self.response_format.type}': only 'text' is")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise ApiError(400, text, "invalid_parameter_combination", "max_tokens")

    def generations(self) -> list[Generation]:
        prompt = Chat(tuple(message.plain() for message in self.messages))
        return [self.generation(prompt, self.max_completion_tokens or self.max_tokens)]


class CompletionRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: str | Annotated[list[str | TokenId | Annotated[list[TokenId], Meta(min_length=1)]], Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None

    def neutral(self) -> Mapping[str, Any]:
        return {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "suffix": None}

    def check(self) -> None:
        super().check()
        if isinstance(self.prompt, list) and len({type(item) for item in self.prompt}) > 1:
            text = "Invalid 'prompt': expected an array of only strings, of only token ids or of only arrays of them."
            raise ApiError(400, text, "invalid_type", "prompt")
        if len(self.prompts()) > MAX_PROMPTS:
            text = (
                f"Invalid 'prompt': array too long. Expected an array with maximum length {MAX_PROMPTS},"
                f" but got an array with length {len(self.prompt)} instead."
            )
            raise ApiError(400, text, "array_above_max_length", "prompt")

    def prompts(self) -> list[Prompt]:
        """One per sequence. A list of numbers is one prompt."""
        if isinstance(self.prompt, str):
            return [Text(self.prompt)]
        if isinstance(self.prompt[0], int):
            return [Tokens(tuple(item for item in self.prompt if isinstance(item, int)))]
        return [Text(item) if isinstance(item, str) else Tokens(_ids(item)) for item in self.prompt]

    def generations(self) -> list[Generation]:
        return [self.generation(prompt, self.max_tokens or COMPLETION_TOKENS) for prompt in self.prompts()]


def _ids(item: int | list[int]) -> tuple[int, ...]:
    return (item,) if isinstance(item, int) else tuple(item)


CHOICES: Mapping[str, tuple[str, ...]] = {
    "role": get_args(Role),
    "service_tier": get_args(ServiceTier),
    "response_format.type": get_args(FormatType),
    "type": ("text",),
}
# Fields of OpenAI's schema that lmx does not have, of requests and of messages: refused by name.
KNOWN = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
        "tool_calls",
        "refusal",
        "annotations",
    }
)


def parse(body: dict[str, Any], kind: type[C], gateway: Gateway) -> C:
    """The body as a request for a model that exists, every fault answered as OpenAI would."""
    given = {name: value for name, value in body.items() if value is not None}
    given["model"] = _model(given.get("model", gateway.default_model), gateway)
    if isinstance(given.get("messages"), list):
        given["messages"] = [_without_nulls(message) for message in given["messages"]]
    request = convert(given, kind, CHOICES, KNOWN)
    request.check()
    return request


def _model(name: object, gateway: Gateway) -> str:
    if name is None:
        raise ApiError(400, "you must provide a model parameter")
    if not isinstance(name, str):
        convert({"model": name}, _OnlyModel, {}, KNOWN)
    if name not in gateway.models:
        raise model_not_found(str(name))
    return str(name)


class _OnlyModel(Struct, frozen=True):
    model: str


def _without_nulls(message: object) -> object:
    """The openai client sends the fields of its own replies back as null."""
    if not isinstance(message, dict):
        return message
    return {name: value for name, value in message.items() if value is not None or name == "content"}
