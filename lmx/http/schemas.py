"""What clients may send to the OpenAI routes. A field that lmx does not honour is refused by name, never ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import Meta, Struct

from lmx.http.constraints import constraint_of
from lmx.http.errors import ApiError, model_not_found
from lmx.http.fields import bound, convert, unsupported
from lmx.http.gateway import Gateway
from lmx.http.messages import Label, Role, check_kinds, without_nulls
from lmx.http.presets import applied
from lmx.http.sampling import INT64, SamplingFields
from lmx.http.tools import Mode
from lmx.machines.speech import Calling, Effort
from lmx.machines.types import Generation, Priority, Prompt

C = TypeVar("C", bound="Common")

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
Truncate = Literal["never", "oldest"]

Size = Annotated[int, Meta(ge=0, le=INT64 - 1)]
Count = Annotated[int, Meta(ge=1, le=INT64 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
MAX_SEQUENCES = 128
"""Of one request: prompts times choices."""


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted; lmx never pads its chunks."""


class Common(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of both routes. None = not given, as null is."""

    model: str
    max_tokens: Size | None = None
    min_tokens: Size | None = None
    """The text does not end by itself before so many tokens."""
    stop: StopText | Annotated[list[StopText], Meta(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    """The text does not end by itself at all."""
    n: Annotated[int, Meta(ge=1, le=MAX_SEQUENCES)] | None = None
    response_format: Any = None
    """What the text must match; of this, `regex`, `grammar` and `choice` one can be given."""
    regex: Any = None
    """The pattern that the text matches."""
    grammar: Any = None
    """The grammar that the text follows, in Lark or GBNF."""
    choice: Any = None
    """The texts of which the answer is one."""
    truncate: Truncate | None = None
    """`oldest`: of a prompt that is too long, leave out the oldest messages or tokens, and tell how many."""
    priority: Priority | None = None
    """`batch`: let others go first."""
    keep_alive: Annotated[float, Meta(ge=-1, le=31_536_000)] | None = None
    """Seconds that the model stays loaded after this request: -1 = for ever, 0 = not at all."""
    lmx_cache: bool | None = None
    """Tell how much of the prompt was known, and why not more."""
    user: Label | None = None
    """A label without effect."""

    def neutral(self) -> Mapping[str, Any]:
        """The only values that lmx can honour of fields that it does not implement."""
        return {}

    def check(self) -> None:
        """What no single field can tell."""
        if self.stream_options is not None and not self.stream:
            raise needs("stream_options", "stream")
        for name, value in self.neutral().items():
            given = getattr(self, name)
            if given is not None and given != value:
                raise unsupported(name, "" if value is None else f": only {value!r} is")
        limit = self.limit
        if limit is not None and limit < (self.min_tokens or 0):
            raise bound("int", "<=", limit, "min_tokens", self.min_tokens)
        prompts = self.prompt_count
        if prompts * self.choices > MAX_SEQUENCES:
            raise bound("int", "<=", MAX_SEQUENCES // prompts, "n", self.choices)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def prompt_count(self) -> int:
        return 1

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

    @property
    def calls(self) -> Calling | None:
        """How tools may be called."""
        return None

    def prompts(self) -> list[Prompt]:
        raise NotImplementedError

    def generations(self) -> list[Generation]:
        """Every choice for the first prompt, then those for the second one."""
        constraint = constraint_of(self.response_format, self.regex, self.grammar, self.choice)
        calling = self.calls
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
                calling=calling,
            )
            for prompt in self.prompts()
            for choice in range(self.choices)
        ]

    @property
    def echoes(self) -> bool:
        return False


def needs(name: str, other: str) -> ApiError:
    """`name` is given without `other`."""
    return ApiError(400, f"The '{name}' parameter is only allowed when '{other}' is enabled.", None, name)


CHOICES: Mapping[str, tuple[str, ...]] = {
    "role": get_args(Role),
    "service_tier": get_args(ServiceTier),
    "truncate": get_args(Truncate),
    "priority": get_args(Priority),
    "type": ("text",),
    "messages.tool_calls.type": ("function",),
    "tools.type": ("function",),
    "tool_choice": get_args(Mode),
    "tool_choice.type": ("function", "allowed_tools"),
    "tool_choice.allowed_tools.mode": ("auto", "required"),
    "tool_choice.allowed_tools.tools.type": ("function",),
    "reasoning_effort": get_args(Effort),
    "thinking.type": ("enabled", "disabled"),
    "modalities": ("text", "audio"),
    "verbosity": ("low", "medium", "high"),
    "prompt_cache_retention": ("in_memory", "24h"),
}
# Fields of OpenAI's schemas that a route of lmx may not have, of requests and of messages: refused by name.
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
    }
)


def parse(body: dict[str, Any], kind: type[C], gateway: Gateway) -> C:
    """The body as a request for a model that exists, every fault answered as OpenAI would."""
    request = convert(given_in(body, gateway, kind), kind, CHOICES, KNOWN)
    request.check()
    return request


def parsed(body: dict[str, Any], kind: type[C], gateway: Gateway) -> tuple[C, list[Generation]]:
    """The request, and what it asks the model for."""
    request = parse(body, kind, gateway)
    return request, request.generations()


def given_in(body: dict[str, Any], gateway: Gateway, kind: type[Struct] | None = None) -> dict[str, Any]:
    """The fields that are not null, with the name of a model that exists among them.

    `kind` is what they are to be: a preset's defaults are added to those that are to generate something.
    """
    given = {name: value for name, value in body.items() if value is not None}
    given["model"] = _model(given.get("model", gateway.default_model), gateway)
    if isinstance(given.get("messages"), list):
        check_kinds(given["messages"])
        given["messages"] = [without_nulls(message) for message in given["messages"]]
    return applied(given, gateway.presets.get(given["model"]), kind) if kind is not None else given


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
