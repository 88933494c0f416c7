"""What a model's template and tokenizer make of messages, texts and tokens, for those who only want to know that."""

from lmx.engine.gallery import captioned
from lmx.engine.intake import Intake
from lmx.engine.quoting import plain
from lmx.engine.refusing import Refused
from lmx.engine.template import TemplateError
from lmx.engine.text import detokenized
from lmx.engine.wire import MAX_FRAME
from lmx.machines import frames
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Prompt, Refusal, RefusalKind, Text, Tokens

MOST_TOKENS = MAX_FRAME // 2 // 5
"""In one answer; a frame has five bytes for each."""
MOST_BYTES = MAX_FRAME // 2


def rendered(intake: Intake, render: frames.Render) -> frames.Rendered | frames.Rejected:
    """Used by the intake thread."""
    asked = render.rendering
    try:
        if asked.to == "text":
            return frames.Rendered(render.job, text=_text(intake, asked.source))
        return frames.Rendered(render.job, tokens=_tokens(intake, asked))
    except Refused as refused:
        return frames.Rejected(render.job, refused.refusal)
    except TemplateError as error:
        return frames.Rejected(render.job, _invalid(str(error), "messages").refusal)


def _tokens(intake: Intake, asked: Rendering) -> tuple[int, ...]:
    match asked.source:
        case Text(text):
            start = [intake.info.bos] if asked.bos and intake.info.bos is not None else []
            tokens = start + intake.backend.encode(text, special=asked.control)
        case source:
            tokens = intake.render(source).tokens
    if len(tokens) > MOST_TOKENS:
        raise _invalid(f"These are {len(tokens)} tokens: one answer holds {MOST_TOKENS}.", None)
    return tuple(tokens)


def _text(intake: Intake, source: Prompt) -> str:
    match source:
        case Chat():
            text = plain(captioned(intake.conversation(source).text()))
        case Text(text):
            pass
        case Tokens(ids):
            text = _detokenized(intake, ids)
    if len(text.encode()) > MOST_BYTES:
        raise _too_much()
    return text


def _detokenized(intake: Intake, ids: tuple[int, ...]) -> str:
    vocab = intake.info.vocab
    if ids and not (min(ids) >= 0 and max(ids) < vocab):
        raise _invalid(f"There is a token id outside 0 … {vocab - 1}.", "tokens")
    pieces = intake.info.token_bytes
    if sum(len(pieces[id]) for id in ids) > MOST_BYTES:  # before the text is made: it may be gigabytes
        raise _too_much()
    return detokenized(ids, pieces)


def _too_much() -> Refused:
    return _invalid(f"This is a text of more than {MOST_BYTES} bytes, which is all that one answer holds.", None)


def _invalid(text: str, param: str | None) -> Refused:
    return Refused(Refusal(RefusalKind.INVALID_PROMPT, text, param=param))
