"""What clients may send to Anthropic's routes. A field that lmx does not honour is refused by name, never ignored."""

from collections.abc import Iterable
from itertools import takewhile
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from lmx.http import tools
from lmx.http.anthropic.blocks import CacheControl, Label, Message, TextBlock, joined
from lmx.http.anthropic.envelope import THREADS
from lmx.http.anthropic.faults import at, convert, extra, missing
from lmx.http.anthropic.options import OutputConfig, OutputFormat, ThinkingConfig, constraint_of, thinking_of
from lmx.http.anthropic.reply import Diagnosis
from lmx.http.anthropic.tools import Tool, ToolChoice, check_kinds, choice_of, found, offered, templates
from lmx.http.anthropic.turns import Script, script_of
from lmx.http.errors import model_not_found
from lmx.http.gateway import Gateway
from lmx.http.presets import applied
from lmx.http.tools import ToolTemplate
from lmx.machines.speech import Thinking
from lmx.machines.types import Chat, Generation, Sampling

R = TypeVar("R", bound="CountRequest")

Share = Annotated[float, Meta(ge=0, le=1)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
PREFILLED = "the final message is an assistant's: it is continued, which cannot be done while `thinking` is on"
NOT_BEGUN = "It cannot go on from the beginning of an answer: end with a message of the user, or choose another model."
BETAS = "anthropic-beta"
EAGER = "fine-grained-tool-streaming"
THREADLESS = "no conversation is kept here: send all of its messages, without `thread`"
BUDGET = "`max_tokens` must be greater than `thinking.budget_tokens`"


class Metadata(Struct, frozen=True, forbid_unknown_fields=True):
    """A label without effect."""

    user_id: Label | None = None


class Rounds(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="thinking_turns"):
    value: Annotated[int, Meta(ge=1)]


class All(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="all"):
    pass


class KeepThinking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="clear_thinking_20251015"):
    """Of which rounds the template gets the thoughts at all; what it does with them is its decision."""

    keep: Literal["all"] | Rounds | All = Rounds(1)


class ContextManagement(Struct, frozen=True, forbid_unknown_fields=True):
    edits: Annotated[list[KeepThinking], Meta(max_length=1)] | None = None

    @property
    def remembers(self) -> int | None:
        """Of how many rounds the thoughts are kept; None = of all."""
        kept = [edit.keep.value for edit in self.edits or () if isinstance(edit.keep, Rounds)]
        return kept[0] if kept else None


class Diagnostics(Struct, frozen=True, forbid_unknown_fields=True):
    previous_message_id: Label | None = None


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
    """`clear_thinking_20251015`; nothing else is ever cleared."""
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

    @property
    def edits(self) -> bool:
        """Whether any are asked for."""
        return self.context_management is not None and bool(self.context_management.edits)

    @property
    def told(self) -> tuple[int, ...]:
        """Which of the tools the model is told of, in that order."""
        if not any(tool.defer_loading for tool in self.tools or ()):
            return ()
        places = {tool.name: number for number, tool in enumerate(self.tools or ())}
        return tuple(places[tool.name] for tool in offered(self.tools or (), found(self.messages)))

    def silenced(self, prefill: str) -> tuple[dict[str, str], dict[str, str]]:
        """What the client calls what switches thoughts off, and what to do where the model cannot but think."""
        return ({"thinking": f"messages.{len(self.messages) - 1}"}, {"thinking": NOT_BEGUN}) if prefill else ({}, {})

    def cleared(self) -> int:
        """How many turns lose their thoughts to edits."""
        return self._script(edited=True).cleared if self.edits else 0

    def chat(self, *, edited: bool = True) -> Chat:
        """Raises ApiError. Images are still where their URLs say (lmx/http/images.py)."""
        script = self._script(edited=edited)
        if script.prefill and self.thinking is not None and self.thinking.on:
            raise at("messages", PREFILLED)
        return Chat(
            tuple(script.messages),
            () if choice_of(self.tool_choice).mode == "none" else self._offered(),
            thinking=self._thinking(bool(script.prefill)),
            prefill=script.prefill,
        )

    def _script(self, *, edited: bool) -> Script:
        system = self.system if isinstance(self.system, str) else joined(self.system or ())
        remembers = self.context_management.remembers if edited and self.context_management is not None else None
        return script_of(self.messages, system, remembers, ends=self._ends())

    def _ends(self) -> bool:
        """The last message is told as it is: it has thoughts, or is to have some, and only its tokens are asked for."""
        last = takewhile(lambda message: message.role == "assistant", reversed(self.messages))
        return (self.thinking is not None and self.thinking.on) or any(message.thinks for message in last)

    def _offered(self) -> tuple[ToolTemplate, ...]:
        """All are checked, also those that the model is not told of yet."""
        told = {tool["function"]["name"]: tool for tool in templates(self.tools or ())}
        return tuple(told[tool.name] for tool in offered(self.tools or (), found(self.messages)))

    def _thinking(self, continued: bool) -> Thinking:
        """A message that is continued has begun with its answer."""
        told = thinking_of(self.thinking, self.output_config)
        return replace(told, enabled=False, effort=None, hint=False) if continued else told


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
    """Without effect: the diagnosis is always `unavailable`."""
    inference_geo: Literal["global"] | None = None
    """Only `global` can be honoured."""

    def _ends(self) -> bool:
        return False

    def check(self) -> None:
        super().check()
        budget = thinking_of(self.thinking, None).budget
        if budget is not None and budget >= self.max_tokens:
            raise at("", BUDGET)

    @property
    def omits_thoughts(self) -> bool:
        return self.thinking is not None and self.thinking.display == "omitted"

    @property
    def diagnosis(self) -> Diagnosis | UnsetType:
        compares = self.diagnostics is not None and self.diagnostics.previous_message_id is not None
        return Diagnosis() if compares else UNSET

    def eager(self, betas: Iterable[str]) -> frozenset[str]:
        """Tools whose input is streamed as it is written: those that say so or, with the beta, that do not refuse."""
        usual = any(EAGER in names for names in betas)
        eager = [(tool.name, tool.eager_input_streaming) for tool in self.tools or ()]
        return frozenset(name for name, wish in eager if (usual if wish is None else wish))

    def generation(self) -> Generation:
        """Raises ApiError."""
        chat = self.chat()
        return Generation(
            prompt=chat,
            max_tokens=self.max_tokens,
            clip=True,
            sampling=self._sampling(),
            stop=tuple(self.stop_sequences or ()),
            constraint=constraint_of(self.output_config, self.output_format),
            calling=tools.calling(choice_of(self.tool_choice), chat.tools or self._offered()),
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
    if "thread" in given:
        raise at("thread", THREADLESS, THREADS)
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
