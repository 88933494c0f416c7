"""Off the decode loop: renders chat templates, tokenises, and checks what the engine must be able to rely on."""

from dataclasses import dataclass

from lmx.backends.base import Backend, Info
from lmx.engine.template import ChatTemplate, TemplateError
from lmx.machines import frames
from lmx.machines.types import Chat, Generation, Prompt, Refusal, RefusalKind, Text, Tokens


@dataclass(frozen=True, slots=True)
class Ready:
    """A sequence that fits: 1 <= prompt, prompt + max_tokens <= context."""

    seq: int
    prompt: list[int]
    max_tokens: int
    generation: Generation


class Intake:
    """Stateless but for the model's tokenizer and template; used by one thread."""

    def __init__(self, backend: Backend, info: Info) -> None:
        """Raises TemplateError when the model's own template is broken."""
        self._backend = backend
        self._info = info
        self._template = (
            ChatTemplate(info.chat_template, bos=info.bos_text, eos=info.eos_text) if info.chat_template else None
        )

    def prepare(self, insert: frames.Insert) -> Ready | frames.Rejected:
        try:
            prompt = self._tokens(insert.generation.prompt)
        except TemplateError as error:
            return self._reject(insert.seq, str(error), "messages")
        return self._fit(insert, prompt)

    def _tokens(self, prompt: Prompt) -> list[int]:
        match prompt:
            case Chat(messages):
                if self._template is None:
                    raise TemplateError("This model has no chat template: use /v1/completions.")
                return self._backend.encode(self._template.render(messages), special=True)
            case Text(text):
                start = [] if self._info.bos is None else [self._info.bos]
                return start + self._backend.encode(text, special=True)
            case Tokens(ids):
                return list(ids)

    def _fit(self, insert: frames.Insert, prompt: list[int]) -> Ready | frames.Rejected:
        generation, context, vocab = insert.generation, self._info.context, self._info.vocab
        if not prompt:
            return self._reject(insert.seq, "The prompt is empty: it has no tokens.", "prompt")
        if min(prompt) < 0 or max(prompt) >= vocab:
            return self._reject(insert.seq, f"The prompt holds a token id outside 0 … {vocab - 1}.", "prompt")
        if any(not 0 <= token < vocab for token in generation.sampling.logit_bias):
            return self._reject(insert.seq, f"'logit_bias' holds a token id outside 0 … {vocab - 1}.", "logit_bias")
        asked = generation.max_tokens if generation.max_tokens is not None else max(1, context - len(prompt))
        if len(prompt) + asked > context:
            return self._too_long(insert, len(prompt))
        return Ready(insert.seq, prompt, asked, generation)

    def _too_long(self, insert: frames.Insert, prompt: int) -> frames.Rejected:
        part = "messages" if isinstance(insert.generation.prompt, Chat) else "prompt"
        text = f"This model's maximum context length is {self._info.context} tokens. However, "
        asked = insert.generation.max_tokens
        if asked is None:
            text += f"your {part} resulted in {prompt} tokens. "
        else:
            text += f"you requested {prompt + asked} tokens ({prompt} in the {part}, {asked} in the completion). "
        text += f"Please reduce the length of the {part}{' or completion' if asked is not None else ''}."
        refusal = Refusal(RefusalKind.CONTEXT_LENGTH_EXCEEDED, text, param=part)
        return frames.Rejected(insert.seq, refusal)

    def _reject(self, seq: int, text: str, param: str) -> frames.Rejected:
        return frames.Rejected(seq, Refusal(RefusalKind.INVALID_PROMPT, text, param=param))
