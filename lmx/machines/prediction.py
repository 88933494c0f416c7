"""How many tokens a request may come to, before anybody has tokenised it."""

from lmx.machines.types import Chat, Generation, Text, Tokens

CHARACTERS = 4
"""Of a token, on average."""


def tokens(generation: Generation, context: int) -> int:
    """Prompt and completion; one that sets no limit is expected to say as much as it was asked.

    Never more than the `context` of the model.
    """
    prompt = _prompt_tokens(generation)
    return min(context, prompt + (prompt if generation.max_tokens is None else generation.max_tokens))


def _prompt_tokens(generation: Generation) -> int:
    match generation.prompt:
        case Tokens(ids):
            return len(ids)
        case Text(text):
            return len(text) // CHARACTERS
        case Chat(messages):
            return sum(_characters(message.get("content")) for message in messages) // CHARACTERS


def _characters(content: object) -> int:
    """Of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(_characters(part.get("text")) for part in content if isinstance(part, dict))
    return 0
