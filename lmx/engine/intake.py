"""Off the decode loop: renders chat templates, tokenises, and checks what the engine must be able to rely on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmx.backends.base import Backend, Info
from lmx.backends.pictures import IMAGE_IDS, PictureError, Tile
from lmx.engine.constraint import Grammars
from lmx.engine.conversation import Conversation, Rendered
from lmx.engine.dialect import audible, dialect_of
from lmx.engine.gallery import Gallery
from lmx.engine.jobs import refuse_generation
from lmx.engine.quoting import Quoting
from lmx.engine.refusing import Refused, unsupported
from lmx.engine.rules import NO_RULES, Rules, Ruling
from lmx.engine.template import TemplateError
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
    rules: Rules = NO_RULES
    breakers: frozenset[int] = frozenset()
    cut: Cut | None = None
    echo: str = ""
    resume: Resume = BEGINNING
    tiles: Mapping[int, Tile] = field(default_factory=dict)
    """The rows of the prompt's images, by the first of their ids."""

    def accepted(self) -> frames.Accepted:
        return frames.Accepted(self.seq, self.asked_tokens, self.echo, self.cut, self.rules.speech)

    @property
    def written(self) -> int:
        """Tokens at the prompt's end that are the sequence's own."""
        return len(self.resume.token_ids)

    @property
    def asked_tokens(self) -> int:
        """Of the prompt as the client gave it."""
        return len(self.prompt) - self.written


@dataclass
class Intake:
    """One model's tokenizer, template and grammars; used by one thread."""

    backend: Backend
    info: Info
    chat_template: str = ""
    """Path of a Jinja file that is used instead of the model's own."""
    _breakers: dict[tuple[str, ...], frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TemplateError when the template is broken, or cannot be read."""
        self.dialect = dialect_of(self.info, self.chat_template)
        if self.dialect is not None:
            self.info = audible(self.info, self.dialect.speech)
        self._quoting = Quoting(self.info.controls.values())
        grammars = Grammars(self.info, lambda text: self.backend.encode(text, special=False))
        self._ruling = Ruling(self.dialect, grammars, lambda text: self.backend.encode(text, special=True))

    def prepare(self, insert: frames.Insert) -> Ready | frames.Rejected:
        try:
            return self._prepared(insert.seq, insert.generation, insert.resume or BEGINNING)
        except Refused as refused:
            return frames.Rejected(insert.seq, refused.refusal)
        except (TemplateError, PictureError) as error:
            return frames.Rejected(insert.seq, _invalid(str(error), "messages"))

    def _prepared(self, seq: int, generation: Generation, resume: Resume) -> Ready:
        if refusal := refuse_generation(self.info):
            raise Refused(refusal)
        rendered, cut = self._fitting(generation)
        prompt = rendered.tokens
        self._check(generation, [token for token in prompt if token < IMAGE_IDS] if rendered.tiles else prompt)
        room = self.info.context - len(prompt)
        asked = room if generation.max_tokens is None else min(generation.max_tokens, room)
        explain = generation.explain_cache
        return Ready(
            seq=seq,
            prompt=[*prompt, *resume.token_ids],
            max_tokens=max(0, asked - len(resume.token_ids)),
            generation=generation,
            checkpoints=self._checkpoints(rendered) if self.info.prefix == "snapshot" else (),
            boundaries=rendered.boundaries() if explain else (),
            rules=self._ruling.rules(generation, rendered.text),
            tiles=rendered.tiles,
            breakers=self._broken_by(generation),
            cut=cut,
            echo=detokenized(prompt, self.info.token_bytes) if generation.echo else "",
            resume=resume,
        )

    def _fitting(self, generation: Generation) -> tuple[Rendered, Cut | None]:
        """The prompt's tokens, cut where that was asked for. Raises Refused for one that is too long."""
        rendered = self.render(generation.prompt)
        room = self.info.context - _needed(generation)
        if len(rendered.tokens) <= room:
            return rendered, None
        if generation.truncate == "oldest" and (shorter := rendered.shortened(room)):
            return shorter
        raise Refused(self._too_long(generation, len(rendered.tokens)))

    def conversation(self, chat: Chat) -> Conversation:
        """Raises TemplateError or Refused."""
        dialect = self.dialect
        if dialect is None:
            raise TemplateError("This model has no chat template: use /v1/completions.")
        messages, gallery = dialect.readable(chat.messages), self._gallery(chat)
        if gallery is not None:
            messages = [gallery.flattened(message) for message in messages]
        messages = [self._quoting.quoted(message) for message in messages]
        variables = dialect.variables(chat)
        return Conversation(messages, dialect.template, self.backend, variables, gallery, chat.prefill)

    def _gallery(self, chat: Chat) -> Gallery | None:
        """None for a chat of text alone. Raises Refused where the model sees nothing."""
        if not chat.images:
            return None
        if self.info.look is None:
            raise unsupported("This model does not see images: it has no projector (mmproj).", "messages")
        return Gallery(chat.images, self.info.look)

    def render(self, prompt: Prompt) -> Rendered:
        """Raises TemplateError or Refused."""
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
            part = "messages" if isinstance(generation.prompt, Chat) else "prompt"
            raise Refused(_invalid("The prompt is empty: it has no tokens.", part))
        if min(prompt) < 0 or max(prompt) >= vocab:
            raise Refused(_invalid(f"The prompt holds a token id outside 0 … {vocab - 1}.", "prompt"))
        if any(not 0 <= token < vocab for token in generation.sampling.logit_bias):
            raise Refused(_invalid(f"'logit_bias' holds a token id outside 0 … {vocab - 1}.", "logit_bias"))

    def _checkpoints(self, rendered: Rendered) -> tuple[int, ...]:
        """Where snapshots pay: after the system's part, before the last message, and just before the end."""
        places = {*rendered.turning_points(), len(rendered.tokens) - 1}
        return tuple(sorted(place for place in places if 0 < place < len(rendered.tokens)))

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
        asked = None if generation.clip else generation.max_tokens
        if asked is None:
            text += f"your {part} resulted in {prompt} tokens. "
        else:
            text += f"you requested {prompt + asked} tokens ({prompt} in the {part}, {asked} in the completion). "
        text += f"Please reduce the length of the {part}{' or completion' if asked is not None else ''}."
        most = self.info.context - _needed(generation)
        return Refusal(RefusalKind.CONTEXT_LENGTH_EXCEEDED, text, param=part, tokens=(prompt, most))


def _needed(generation: Generation) -> int:
    """Tokens that there must be room for behind the prompt."""
    asked = 1 if generation.max_tokens is None else generation.max_tokens
    return min(asked, 1) if generation.clip else asked


def _invalid(text: str, param: str) -> Refusal:
    return Refusal(RefusalKind.INVALID_PROMPT, text, param=param)
