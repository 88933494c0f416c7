"""What became of the edits that a client asks for in `context_management`, as Anthropic tells it."""

from msgspec import UNSET, Struct, UnsetType


class ClearedThinking(Struct, frozen=True, tag_field="type", tag="clear_thinking_20251015"):
    cleared_thinking_turns: int
    cleared_input_tokens: int
    """0 where the model's template would have left the thoughts out anyway."""


class Applied(Struct, frozen=True):
    applied_edits: tuple[ClearedThinking, ...] = ()


class Original(Struct, frozen=True):
    original_input_tokens: int


class Edits(Struct, frozen=True):
    """Of one request."""

    asked: bool = False
    turns: int = 0
    """Whose thoughts were cleared."""
    tokens: int = 0
    """Of the prompt with them, where there are any."""

    def told(self, prompt_tokens: int) -> Applied | UnsetType:
        """Only to who asked; an edit that changed nothing was not applied."""
        if not self.asked:
            return UNSET
        cleared = ClearedThinking(self.turns, max(0, self.tokens - prompt_tokens))
        return Applied((cleared,) if self.turns else ())
