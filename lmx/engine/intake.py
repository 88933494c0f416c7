"""Off the decode loop: renders chat templates, tokenises, and checks what the engine must be able to rely on."""

from dataclasses import dataclass, field

from lmx.backends.base import Backend, Info
from lmx.engine.constraint import ConstraintError, Grammar, Grammars
from lmx.engine.conversation import Conversation, Rendered
from lmx.engine.jobs import refuse_generation
from lmx.engine.template import ChatTemplate, TemplateError
from lmx.engine.text import detokenized
from lmx.machines import frames
from lmx.machines.frames import Resume
from lmx.machines.types import Chat, Cut, Generation, Prompt, Refusal, RefusalKind, Text, Tokens

BEGINNING = Resume((), 0)
"""Nobody has written anything yet."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A sequence that fits: 1 <= prompt, prompt + max_tokens <= context.

    What another worker had written of it is the end of its prompt, and max_tokens is what is left.
    `checkpoints`: lengths of the prompt at which a later one may branch off. `boundaries`: where each message ends,
    for who wants to know which one differed.
    """

    seq: int
    prompt: list[int]
    max_tokens: int
    generation: Generation
    checkpoints: tuple[int, ...] = ()
    boundaries: tuple[int, ...] = ()
    grammar: Grammar | None = None
    breakers: frozenset[int] = frozenset()
    cut: Cut | None = None
    echo: str = ""
    resume: Resume = BEGINNING

    @property
    def written(self) -> int:
        """Tokens at the prompt's end that are the sequence's own."""
        return len(self.resume.token_ids)

    @property
    def asked_tokens(self) -> int:
        """Of the prompt as the client gave it."""
        return len(self.prompt) - self.written


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    refusal: Refusal


@dataclass
class Intake:
    """One model's tokenizer, template and grammars; used by one thread."""

    backend: Backend
    info: Info
    template: ChatTemplate | None = None
    _breakers: dict[tuple[str, ...], frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TemplateError when the model's own template is broken."""
        info = self.info
        if info.chat_template:
            self.template = ChatTemplate(info.chat_template, bos=info.bos_text, eos=info.eos_text)
        self._grammars = Grammars(info, lambda text: self.backend.encode(text, special=False))

    def prepare(self, insert: frames.Insert) -> Ready | frames.Rejected:
        try:
            return self._prepared(insert.seq, insert.generation, insert.resume or BEGINNING)
        except Refused as refused:
            return frames.Rejected(insert.seq, refused.refusal)
        except TemplateError as error:
            return frames.Rejected(insert.seq, _invalid(str(error), "messages"))

    def _prepared(self, seq: int, generation: Generation, resume: Resume) -> Ready:
        if refusal := refuse_generation(self.info):
            raise Refused(refusal)
        rendered, cut = self._fitting(generation)
        prompt = rendered.tokens
        self._check(generation, prompt)
        room = self.info.context - len(prompt)
        asked = generation.max_tokens if generation.max_tokens is not None else room
        explain = generation.explain_cache
        return Ready(
            seq=seq,
            prompt=[*prompt, *resume.token_ids],
            max_tokens=max(0, asked - len(resume.token_ids)),
            generation=generation,
            checkpoints=self._checkpoints(rendered) if self.info.prefix == "snapshot" else (),
            boundaries=rendered.boundaries() if explain else (),
            grammar=self._grammar(generation),
            breakers=self._broken_by(generation),
            cut=cut,
            echo=detokenized(prompt, self.info.token_bytes) if generation.echo else "",
            resume=resume,
        )

    def _fitting(self, generation: Generation) -> tuple[Rendered, Cut | None]:
        """The prompt's tokens, cut where that was asked for. Raises Refused for one that is too long."""
        rendered = self.render(generation.prompt)
        room = self.info.context - (1 if generation.max_tokens is None else generation.max_tokens)
        if len(rendered.tokens) <= room:
            return rendered, None
        if generation.truncate == "oldest" and (shorter := rendered.shortened(room)):
            return shorter
        raise Refused(self._too_long(generation, len(rendered.tokens)))

    def conversation(self, chat: Chat) -> Conversation:
        """Raises TemplateError."""
        if self.template is None:
            raise TemplateError("This model has no chat template: use /v1/completions.")
        return Conversation(chat.messages, self.template, self.backend)

    def render(self, prompt: Prompt) -> Rendered:
        """Raises TemplateError."""
        match prompt:
            case Chat():
                return self.conversation(prompt).render()
            case Text(text):
                start = [] if self.info.bos is None else [self.info.bos]
                return Rendered(start + self.backend.encode(text, special=True), kept=len(start))
            case Tokens(ids):
                return Rendered(list(ids), kept=0)

    def _check(self, generation: Generation, prompt: list[int]) -> None:
        vocab = self.info.vocab
        if not prompt:
            raise Refused(_invalid("The prompt is empty: it has no tokens.", "prompt"))
        if min(prompt) < 0 or max(prompt) >= vocab:
            raise Refused(_invalid(f"The prompt holds a token id outside 0 … {vocab - 1}.", "prompt"))
        if any(not 0 <= token < vocab for token in generation.sampling.logit_bias):
            raise Refused(_invalid(f"'logit_bias' holds a token id outside 0 … {vocab - 1}.", "logit_bias"))

    def _checkpoints(self, rendered: Rendered) -> tuple[int, ...]:
        """Where snapshots pay: after the system's part, before the last message, and just before the end."""
        places = {*rendered.turning_points(), len(rendered.tokens) - 1}
        return tuple(sorted(place for place in places if 0 < place < len(rendered.tokens)))

    def _grammar(self, generation: Generation) -> Grammar | None:
        if generation.constraint is None:
            return None
        if generation.ignore_eos:
            text = "'ignore_eos' cannot be used with a constraint: what it describes has an end."
            raise Refused(Refusal(RefusalKind.INVALID_CONSTRAINT, text, param="ignore_eos"))
        try:
            return self._grammars.compile(generation.constraint)
        except ConstraintError as error:
            raise Refused(Refusal(RefusalKind.INVALID_CONSTRAINT, error.message, param=error.param)) from error

    def _broken_by(self, generation: Generation) -> frozenset[int]:
        """Tokens that hold one of the strings across which no repetition reaches."""
        sampling = generation.sampling
        if not sampling.dry_multiplier:
            return frozenset()
        strings = sampling.dry_sequence_breakers
        if strings not in self._breakers:
            self._breakers.clear()
            marks = [string.encode() for string in strings if string]
            pieces = enumerate(self.info.token_bytes)
            self._breakers[strings] = frozenset(id for id, piece in pieces if any(mark in piece for mark in marks))
        return self._breakers[strings]

    def _too_long(self, generation: Generation, prompt: int) -> Refusal:
        part = "messages" if isinstance(generation.prompt, Chat) else "prompt"
        text = f"This model's maximum context length is {self.info.context} tokens. However, "
        asked = generation.max_tokens
        if asked is None:
            text += f"your {part} resulted in {prompt} tokens. "
        else:
            text += f"you requested {prompt + asked} tokens ({prompt} in the {part}, {asked} in the completion). "
        text += f"Please reduce the length of the {part}{' or completion' if asked is not None else ''}."
        return Refusal(RefusalKind.CONTEXT_LENGTH_EXCEEDED, text, param=part)


def _invalid(text: str, param: str) -> Refusal:
    return Refusal(RefusalKind.INVALID_PROMPT, text, param=param)
