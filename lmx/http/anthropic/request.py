"""What clients may send to Anthropic's routes. A field that lmx does not honour is refused by name, never ignored."""

from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from lmx.http import tools
from lmx.http.anthropic.blocks import CacheControl, Label, Message, TextBlock
from lmx.http.anthropic.faults import at, convert, extra, missing
from lmx.http.anthropic.options import OutputConfig, OutputFormat, ThinkingConfig, constraint_of, thinking_of
from lmx.http.anthropic.tools import Tool, ToolChoice, check_kinds, choice_of, templates
from lmx.http.anthropic.turns import joined, script_of
from lmx.http.errors import model_not_found
from lmx.http.gateway import Gateway
from lmx.http.images import gathered
from lmx.http.presets import applied
from lmx.machines.speech import Thinking
from lmx.machines.types import Chat, Generation, Sampling

R = TypeVar("R", bound="CountRequest")

Share = Annotated[float, Meta(ge=0, le=1)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
PREFILLED = "the final message is an assistant's: it is continued, which cannot be done while `thinking` is on"
BUDGET = "`max_tokens` must be greater than `thinking.budget_tokens`"


class Metadata(Struct, frozen=True, forbid_unknown_fields=True):
    """A label without effect."""

    user_id: Label | None = None


class KeepThinking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="clear_thinking_20251015"):
    """All of it is kept, which the template decides anyway."""

    keep: Literal["all"]


class ContextManagement(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is ever cleared, so that is all that may be asked for."""

    edits: list[KeepThinking] | None = None


class Diagnostics(Struct, frozen=True, forbid_unknown_fields=True):
    previous_message_id: Literal[None] = None


class CountRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/messages/count_tokens; what a message is made of. None = not given, as null is."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """The same as `output_config.format`, which came later."""
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    """Nothing is ever cleared, so that is all that may be asked for."""
    mcp_servers: Annotated[list[Any], Meta(max_length=0)] | None = None
    """None can be honoured."""
    speed: Literal["standard"] | None = None
    """Only `standard` can be honoured."""

    def check(self) -> None:
        """What no single field can tell."""
        if self.output_format is not None and self.output_config is not None and self.output_config.format is not None:
            raise extra("output_format")
        if self.tool_choice is not None and not self.tools:
            raise at("tool_choice", "may only be specified while providing `tools`")

    async def chat(self, *, fetch: bool) -> Chat:
        """Raises ApiError. `fetch`: images may come from the network."""
        system = self.system if isinstance(self.system, str) else joined(self.system or ())
        script = script_of(self.messages, system)
        if script.prefill and self.thinking is not None and self.thinking.on:
            raise at("messages", PREFILLED)
        messages, images = await gathered(script.messages, fetch=fetch)
        return Chat(
            messages,
            () if choice_of(self.tool_choice).mode == "none" else templates(self.tools or ()),
            thinking=self._thinking(bool(script.prefill)),
            images=images,
            prefill=script.prefill,
        )

    def _thinking(self, continued: bool) -> Thinking:
        """A message that is continued has begun with its answer."""
        told = thinking_of(self.thinking, self.output_config)
        return replace(told, enabled=False, effort=None) if continued else told


class MessagesRequest(CountRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/messages. `container`, `inference_geo` and the like are of Anthropic's own machines."""

    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    """0 = read the prompt, so that it is known, and write nothing."""
    stop_sequences: Annotated[list[StopText], Meta(max_length=64)] | None = None
    stream: bool | None = None
    temperature: Share | None = None
    """As in Anthropic's earlier versions; to 1."""
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    """As in Anthropic's earlier versions."""
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """As in Anthropic's earlier versions."""
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    """Without effect: there is one tier."""
    diagnostics: Diagnostics | None = None
    """Without effect: nothing is diagnosed."""
    inference_geo: Literal["global"] | None = None
    """Only `global` can be honoured."""

    def check(self) -> None:
        super().check()
        budget = thinking_of(self.thinking, None).budget
        if budget is not None and budget >= self.max_tokens:
            raise at("", BUDGET)

    @property
    def omits_thoughts(self) -> bool:
        return self.thinking is not None and self.thinking.display == "omitted"

    @property
    def eager(self) -> frozenset[str]:
        """Tools whose input is streamed as it is written."""
        return frozenset(tool.name for tool in self.tools or () if tool.eager_input_streaming)

    async def generation(self, *, fetch: bool) -> Generation:
        """Raises ApiError."""
        chat = await self.chat(fetch=fetch)
        return Generation(
            prompt=chat,
            max_tokens=self.max_tokens,
            clip=True,
            sampling=self._sampling(),
            stop=tuple(self.stop_sequences or ()),
            constraint=constraint_of(self.output_config, self.output_format),
            calling=tools.calling(choice_of(self.tool_choice), chat.tools or templates(self.tools or ())),
        )

    def _sampling(self) -> Sampling:
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
        )


def parse(body: dict[str, Any], kind: type[R], gateway: Gateway) -> R:
    """The body as a request for a model that exists, every fault answered as Anthropic would."""
    given = {name: value for name, value in body.items() if value is not None}
    given["model"] = _model(given.get("model", gateway.default_model), gateway)
    check_kinds(given.get("tools"))
    request = convert(applied(given, gateway.presets.get(given["model"]), kind, sampling=False), kind)
    request.check()
    return request


def _model(name: object, gateway: Gateway) -> str:
    if name is None:
        raise missing("model")
    if not isinstance(name, str):
        raise at("model", "Input should be a valid string", "invalid_type")
    if not gateway.offers(name):
        raise model_not_found(name)
    return name
