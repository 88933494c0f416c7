"""What clients may send to POST /v1/responses. A field that lmx does not honour is refused by name, never ignored."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from lmx.http.chat_request import MetadataKey
from lmx.http.constraints import Name, ObjectFormat, TextFormat, constraint_of
from lmx.http.errors import ApiError
from lmx.http.fields import bound, convert, unsupported
from lmx.http.gateway import Gateway
from lmx.http.messages import Label
from lmx.http.responses.given import filled
from lmx.http.responses.items import Given, Item, ItemRole, Message
from lmx.http.responses.tools import FunctionTool, Toolbox, ToolChoice
from lmx.http.responses.turns import messages_of
from lmx.http.sampling import SamplingFields
from lmx.http.schemas import Count, Size, StopText, given_in
from lmx.http.thinking import Budget, Thought, thought_of
from lmx.machines.speech import Effort
from lmx.machines.types import Chat, Constraint, Generation, Priority

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
LOGPROBS, SEALED = "message.output_text.logprobs", "reasoning.encrypted_content"
Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    # What no reply of lmx has, so that nothing is left out of it.
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class SchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    name: Name
    schema: dict[str, Any]
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET
    """Without effect: a schema is always obeyed."""


class TextOptions(Struct, frozen=True, forbid_unknown_fields=True):
    format: TextFormat | ObjectFormat | SchemaFormat = TextFormat()
    verbosity: Literal["low", "medium", "high"] = "medium"


class ReasoningOptions(Struct, frozen=True, forbid_unknown_fields=True):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    """lmx tells the thoughts themselves."""
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """OpenAI's older name of `summary`."""
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: Literal["standard", "pro"] | None = None


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None
    """Accepted; lmx never pads its events."""


class ResponseRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """None = not given, as null is."""

    model: str
    input: str | Annotated[list[Given], Meta(min_length=1)] | None = None
    instructions: str | None = None
    """For this response only."""
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[Include] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    """Of tools that the server runs itself: lmx has none."""
    reasoning: ReasoningOptions | None = None
    enable_thinking: bool | None = None
    """Whether to think, where it can be chosen."""
    thinking_budget: Budget | None = None
    """Tokens of thoughts, after which the answer must come."""
    chat_template_kwargs: dict[str, Any] | None = None
    """More variables of the model's chat template; those about thinking mean the same as the fields here."""
    text: TextOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """auto = leave out the oldest messages when there are too many."""
    service_tier: ServiceTier | None = None
    metadata: Annotated[dict[MetadataKey, Label], Meta(max_length=16)] | None = None
    """A label without effect; it is told again."""
    user: Label | None = None
    """A label without effect."""
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    """A label without effect."""
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    """Only `in_memory` can be honoured."""
    """A label without effect."""
    min_tokens: Size | None = None
    """The text does not end by itself before so many tokens."""
    stop: StopText | Annotated[list[StopText], Meta(min_length=1, max_length=4)] | None = None
    """Texts that end the text."""
    ignore_eos: bool | None = None
    """The text does not end by itself at all."""
    regex: Any = None
    """The pattern that the text matches; of this, `grammar`, `choice` and `text.format` one can be given."""
    grammar: Any = None
    """In Lark or GBNF."""
    choice: Any = None
    """The texts of which the answer is one."""
    priority: Priority | None = None
    """`batch`: let others go first."""
    keep_alive: Annotated[float, Meta(ge=-1, le=31_536_000)] | None = None
    """Seconds that the model stays loaded after this request: -1 = for ever, 0 = not at all."""
    lmx_cache: bool | None = None
    """Tell how much of the prompt was known, and why not more."""

    def check(self, *, stores: bool) -> None:
        """What no single field can tell. `stores`: there is a place to keep responses in."""
        if self.input is None and self.previous_response_id is None:
            raise ApiError(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")
        if self.stream_options is not None and not self.stream:
            raise _needs("stream_options", "'stream' is enabled")
        if self.top_logprobs and not self.tells_logprobs:
            raise _needs("top_logprobs", f"'include' contains '{LOGPROBS}'")
        if self.max_output_tokens is not None and self.max_output_tokens < (self.min_tokens or 0):
            raise bound("int", "<=", self.max_output_tokens, "min_tokens", self.min_tokens)
        for name, only in NEUTRAL.items():
            self._check_neutral(name, only)
        self._check_store(stores)

    def _check_neutral(self, name: str, only: str) -> None:
        """Options of which lmx can honour some values only."""
        value: Any = self
        for step in name.split("."):
            value = None if value is None else getattr(value, step)
        if value is not None and value != only:
            raise unsupported(name, f": only {only!r} is")

    def _check_store(self, stores: bool) -> None:
        if not stores:
            for name in ("store", "background", "previous_response_id"):
                if getattr(self, name):
                    raise ApiError(400, f"'{name}' needs a store, and this server keeps none.", UNSUPPORTED, name)
        if self.background and self.store is False:
            raise _needs("background", "'store' is enabled")
        if self.background and self.stream:
            raise ApiError(400, "A response in the background cannot be streamed by lmx.", UNSUPPORTED, "stream")

    @property
    def given(self) -> Sequence[Given]:
        """This request's own items."""
        return (Message("user", self.input),) if isinstance(self.input, str) else self.input or ()

    @property
    def tells_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    @property
    def seals(self) -> bool:
        """Thoughts are wanted in a form that a client can hand back without a store."""
        return SEALED in (self.include or ())

    @property
    def urgency(self) -> Priority:
        return self.priority or ("batch" if self.service_tier == "flex" else "interactive")

    @property
    def tier(self) -> str:
        """The one that was honoured."""
        return "flex" if self.service_tier == "flex" and self.urgency == "batch" else "default"

    @cached_property
    def _thought(self) -> Thought:
        effort = self.reasoning.effort if self.reasoning else None
        return thought_of(effort, self.enable_thinking, self.thinking_budget, None, self.chat_template_kwargs)

    @property
    def names(self) -> dict[str, str]:
        """What the client calls what a model may refuse."""
        thinking = next(iter(self._thought.names), "reasoning")
        return {"messages": "input", "prompt": "input", "max_tokens": "max_output_tokens", "thinking": thinking}

    def constraint(self) -> Constraint | None:
        options = self.text or TextOptions()
        wanted = options.format
        format = to_builtins(wanted)
        if isinstance(wanted, SchemaFormat):
            format = {"type": "json_schema", "json_schema": {"name": wanted.name, "schema": wanted.schema}}
        return constraint_of(format, self.regex, self.grammar, self.choice)

    def generation(self, earlier: Sequence[Item], own: Sequence[Item]) -> Generation:
        """`earlier` is the conversation that it goes on from, `own` the request's own items."""
        box = Toolbox(self.tools, self.tool_choice, parallel=self.parallel_tool_calls is not False)
        return Generation(
            prompt=Chat(
                messages=messages_of(self.instructions, earlier, own),
                tools=box.templates,
                variables=self._thought.variables,
                thinking=self._thought.thinking,
            ),
            max_tokens=self.max_output_tokens,
            sampling=self.sampling(),
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            ignore_eos=bool(self.ignore_eos),
            min_tokens=self.min_tokens or 0,
            logprobs=(self.top_logprobs or 0) if self.tells_logprobs else None,
            constraint=self.constraint(),
            truncate="oldest" if self.truncation == "auto" else "never",
            priority=self.urgency,
            explain_cache=bool(self.lmx_cache),
            calling=box.calling,
        )


def _needs(name: str, what: str) -> ApiError:
    return ApiError(400, f"The '{name}' parameter is only allowed when {what}.", None, name)


UNSUPPORTED = "unsupported_parameter"
# The only value that lmx can honour.
NEUTRAL: Mapping[str, str] = {
    "text.verbosity": "medium",
    "reasoning.summary": "auto",
    "reasoning.generate_summary": "auto",
    "reasoning.context": "auto",
    "reasoning.mode": "standard",
    "prompt_cache_retention": "in_memory",
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "role": get_args(ItemRole),
    "service_tier": get_args(ServiceTier),
    "truncation": ("auto", "disabled"),
    "priority": get_args(Priority),
    "include": get_args(Include),
    "effort": get_args(Effort),
    "summary": ("auto", "concise", "detailed"),
    "verbosity": ("low", "medium", "high"),
    "tool_choice": ("none", "auto", "required"),
    "type": ("json_object", "json_schema", "text"),
}
# Fields of OpenAI's schema that lmx does not have, of requests, items and tools: refused by name.
KNOWN = frozenset(
    {
        *("context_management", "conversation", "moderation", "prompt", "prompt_cache_options"),
        *("caller", "namespace", "file_id", "personality"),
        *("allowed_callers", "defer_loading", "output_schema", "modalities", "truncate"),
    }
)


def parse(body: dict[str, Any], gateway: Gateway, *, stores: bool) -> ResponseRequest:
    """The body as a request for a model that exists, every fault answered as OpenAI would."""
    request = convert(filled(given_in(body, gateway, ResponseRequest)), ResponseRequest, CHOICES, KNOWN)
    request.check(stores=stores)
    return request
