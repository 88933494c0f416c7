"""What clients may send to /v1/chat/completions."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from lmx.http import messages as conversation
from lmx.http.errors import ApiError
from lmx.http.messages import Label, Message
from lmx.http.schemas import Common, Count, ServiceTier, needs
from lmx.http.thinking import Budget, ThinkingSwitch, Thought, thought_of
from lmx.http.tool_choice import ToolChoice, Tools, check_tools, choice_of, templates_of
from lmx.http.tools import Choice, ToolTemplate, calling
from lmx.machines.speech import Calling, Effort
from lmx.machines.types import Chat, Priority, Prompt

MetadataKey = Annotated[str, Meta(max_length=64)]


class ChatRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    """Of all tokens: also of those that are thoughts and calls."""
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Tools | None = None
    """Functions; custom tools are refused."""
    tool_choice: ToolChoice | None = None
    """What must be called is held to its schema; `none` leaves the tools out of the prompt; a name means one call."""
    parallel_tool_calls: bool | None = None
    """false: one call at most."""
    reasoning_effort: Effort | None = None
    """How much to think, where the model's template knows it."""
    enable_thinking: bool | None = None
    """Whether to think, where it can be chosen. `thinking` says the same."""
    thinking_budget: Budget | None = None
    """Tokens of thoughts, after which the answer must come."""
    thinking: ThinkingSwitch | None = None
    """`enabled`, with a budget, or `disabled`; says the same as the two fields for it."""
    chat_template_kwargs: dict[str, Any] | None = None
    """More variables of the model's chat template; those about thinking mean the same as the fields here."""
    modalities: list[Literal["text", "audio"]] | None = None
    """Only ["text"] can be honoured."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """Only `medium` can be honoured."""
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    """Only `in_memory` can be honoured."""
    store: bool | None = None
    """Without effect: no chat is kept."""
    metadata: Annotated[dict[MetadataKey, Label], Meta(max_length=16)] | None = None
    """A label without effect."""
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    """A label without effect."""
    prompt_cache_key: Label | None = None
    """A label without effect."""

    def neutral(self) -> Mapping[str, Any]:
        return {"modalities": ["text"], "verbosity": "medium", "prompt_cache_retention": "in_memory"}

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise needs("top_logprobs", "logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise ApiError(400, text, "invalid_parameter_combination", "max_tokens")
        check_tools(self.tools, self.tool_choice, self.parallel_tool_calls)
        conversation.check(self.messages)

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

    @property
    def calls(self) -> Calling | None:
        return calling(self._choice, self._offered)

    @property
    def names(self) -> dict[str, str]:
        """What the client calls what a model may refuse, by field of a Chat."""
        names = self._thought.names
        return {"thinking": names[0]} if names else {}

    def prompts(self) -> list[Prompt]:
        shown = () if self._choice.mode == "none" else self._offered
        told = conversation.told(self.messages, images=True)
        return [Chat(told, shown, self._thought.variables, self._thought.thinking)]

    @cached_property
    def _choice(self) -> Choice:
        return choice_of(self.tool_choice, self.parallel_tool_calls)

    @cached_property
    def _offered(self) -> tuple[ToolTemplate, ...]:
        return templates_of(self.tools) if self.tools else ()

    @cached_property
    def _thought(self) -> Thought:
        switch, variables = self.thinking, self.chat_template_kwargs
        return thought_of(self.reasoning_effort, self.enable_thinking, self.thinking_budget, switch, variables)
