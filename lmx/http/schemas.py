"""What clients may send to the OpenAI routes. A field that lmx does not honour is refused by name, never ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from lmx.http import inputs
from lmx.http.constraints import constraint_of
from lmx.http.errors import ApiError, model_not_found
from lmx.http.fields import bound, convert, unsupported
from lmx.http.gateway import Gateway
from lmx.http.messages import Label, Message, Role, without_nulls
from lmx.http.sampling import INT64, SamplingFields, TokenId
from lmx.machines.types import Chat, Generation, Priority, Prompt

C = TypeVar("C", bound="Common")

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
Truncate = Literal["never", "oldest"]

Size = Annotated[int, Meta(ge=0, le=INT64 - 1)]
Count = Annotated[int, Meta(ge=1, le=INT64 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MAX_SEQUENCES = 128
"""Of one request: prompts times choices."""
COMPLETION_TOKENS = 16
"""OpenAI's default of /v1/completions."""


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted; lmx never pads its chunks."""


class Common(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of both routes. None = not given, as null is."""

    model: str
    max_tokens: Size | None = None
    min_tokens: Size | None = None
    stop: StopText | Annotated[list[StopText], Meta(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_SEQUENCES)] | None = None
    response_format: Any = None
    """This and the next three say what the text must match: read by constraint_of."""
    regex: Any = None
    grammar: Any = None
    choice: Any = None
    truncate: Truncate | None = None
    priority: Priority | None = None
    keep_alive: Annotated[float, Meta(ge=-1, le=31_536_000)] | None = None
    """Seconds that the model stays loaded after this request: -1 = for ever, 0 = not at all."""
    lmx_cache: bool | None = None
    """Tell how much of the prompt was known, and why not more."""
    user: Label | None = None
    """A label without effect, as are metadata, safety_identifier and prompt_cache_key."""

    def neutral(self) -> Mapping[str, Any]:
        """The only values that lmx can honour of fields that it does not implement."""
        return {}

    def check(self) -> None:
        """What no single field can tell."""
        if self.stream_options is not None and not self.stream:
            raise _needs("stream_options", "stream")
        for name, value in self.neutral().items():
            given = getattr(self, name)
            if given is not None and given != value:
                raise unsupported(name, "" if value is None else f": only {value!r} is")
        limit = self.limit
        if limit is not None and limit < (self.min_tokens or 0):
            raise bound("int", "<=", limit, "min_tokens", self.min_tokens)
        if len(self.prompts()) * self.choices > MAX_SEQUENCES:
            raise bound("int", "<=", MAX_SEQUENCES // len(self.prompts()), "n", self.choices)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        """Of each prompt."""
        return self.n or 1

    @property
    def limit(self) -> int | None:
        """Tokens of a completion; None = as many as there is room for."""
        return self.max_tokens

    @property
    def rivals(self) -> int | None:
        """Likely tokens to tell with every token; None = no log-probabilities at all."""
        return None

    @property
    def urgency(self) -> Priority:
        return self.priority or "interactive"

    def prompts(self) -> list[Prompt]:
        raise NotImplementedError

    def generations(self) -> list[Generation]:
        """Every choice for the first prompt, then those for the second one."""
        constraint = constraint_of(self.response_format, self.regex, self.grammar, self.choice)
        return [
            Generation(
                prompt=prompt,
                max_tokens=self.limit,
                sampling=self.sampling(choice),
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
                ignore_eos=bool(self.ignore_eos),
                min_tokens=self.min_tokens or 0,
                logprobs=self.rivals,
                echo=self.echoes,
                constraint=constraint,
                truncate=self.truncate or "never",
                priority=self.urgency,
                explain_cache=bool(self.lmx_cache) and choice == 0,
            )
            for prompt in self.prompts()
            for choice in range(self.choices)
        ]

    @property
    def echoes(self) -> bool:
        return False


class ChatRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: Annotated[dict[MetadataKey, Label], Meta(max_length=16)] | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_key: Label | None = None

    def neutral(self) -> Mapping[str, Any]:
        return {"store": False}

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise _needs("top_logprobs", "logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise ApiError(400, text, "invalid_parameter_combination", "max_tokens")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def rivals(self) -> int | None:
        return self.top_logprobs or 0 if self.logprobs else None

    @property
    def urgency(self) -> Priority:
        return self.priority or ("batch" if self.service_tier == "flex" else "interactive")

    @property
    def tier(self) -> str | UnsetType:
        """The one that was honoured, as the reply tells it when one was asked for."""
        if self.service_tier is None:
            return UNSET
        return "flex" if self.service_tier == "flex" and self.urgency == "batch" else "default"

    def prompts(self) -> list[Prompt]:
        return [Chat(tuple(message.plain() for message in self.messages))]


class CompletionRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: str | Annotated[list[str | TokenId | inputs.Ids], Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    """OpenAI allows 5."""
    suffix: str | None = None

    def neutral(self) -> Mapping[str, Any]:
        return {"best_of": self.choices, "suffix": None}

    def check(self) -> None:
        inputs.read(self.prompt, "prompt", MAX_SEQUENCES)
        if self.max_tokens == 0 and not self.echo:
            raise bound("int", ">=", 1, "max_tokens", 0)
        super().check()

    @property
    def limit(self) -> int | None:
        return COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def rivals(self) -> int | None:
        return self.logprobs

    @property
    def echoes(self) -> bool:
        return bool(self.echo)

    def prompts(self) -> list[Prompt]:
        return [*inputs.read(self.prompt, "prompt", MAX_SEQUENCES)]


def _needs(name: str, other: str) -> ApiError:
    return ApiError(400, f"The '{name}' parameter is only allowed when '{other}' is enabled.", None, name)


CHOICES: Mapping[str, tuple[str, ...]] = {
    "role": get_args(Role),
    "service_tier": get_args(ServiceTier),
    "truncate": get_args(Truncate),
    "priority": get_args(Priority),
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
    request = convert(given_in(body, gateway), kind, CHOICES, KNOWN)
    request.check()
    return request


def given_in(body: dict[str, Any], gateway: Gateway) -> dict[str, Any]:
    """The fields that are not null, with the name of a model that exists among them."""
    given = {name: value for name, value in body.items() if value is not None}
    given["model"] = _model(given.get("model", gateway.default_model), gateway)
    if isinstance(given.get("messages"), list):
        given["messages"] = [without_nulls(message) for message in given["messages"]]
    return given


def _model(name: object, gateway: Gateway) -> str:
    if name is None:
        raise ApiError(400, "you must provide a model parameter")
    if not isinstance(name, str):
        convert({"model": name}, _OnlyModel, {}, KNOWN)
    if not gateway.offers(str(name)):
        raise model_not_found(str(name))
    return str(name)


class _OnlyModel(Struct, frozen=True):
    model: str
