"""gpt-oss: a text of messages, each on a channel (analysis, commentary, final), calls among them.

After OpenAI's description of the format: <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json
<|message|>{…}<|call|>. Why it is read here and not by OpenAI's package: docs/decisions/0011.
"""

import re
from collections.abc import Sequence

from lmx.formats import grammar, json_text
from lmx.formats.base import Calls, Format, Function
from lmx.formats.parts import Said, Thought
from lmx.formats.tape import Malformed, Reading, Tape, Truncated
from lmx.formats.telling import Kind, Telling
from lmx.machines.speech import Speech

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|return|>", "<|call|>")

_HEADER = re.compile(
    r"(?:<\|start\|>)?(?:assistant)?(?:\s*to=(?P<first>[\w.-]+))?\s*"
    r"(?:<\|channel\|>\s*(?P<channel>analysis|commentary|final))?"
    r"(?:\s*to=(?P<second>[\w.-]+))?(?:\s*(?:<\|constrain\|>)?\s*\w+)?\s*"
)
_FUNCTIONS = "functions."
_LONGEST = 400
"""Characters of a header."""


class Harmony(Format):
    name = "harmony"
    marks = (START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS)
    begins = (START, CHANNEL)
    ends = ("<|call|>",)

    def recognised(self, template: str) -> bool:
        return "to=functions." in template and CHANNEL in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        """A message that is a call, from its header on."""
        name, _ = yield from _header(tape)
        if not name:
            raise Malformed
        yield from _call(tape, calls, name)

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        """One call, as the model ends its turn with it, with parallel or without."""
        rules = [
            grammar.literal(f"{CHANNEL}commentary to=functions.{name} {CONSTRAIN}json{MESSAGE}") + f" {schema}"
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=False)


def messages(telling: Telling, calls: Calls, speech: Speech) -> Reading[None]:
    """The whole text. Without functions a call is text, as a header is that says nothing known."""
    if speech.opened:
        yield from _body(telling, Thought)
    yield from telling.attempt(_message(telling, calls), past=0)
    while (yield from telling.text(Said, (START, CHANNEL))):
        yield from telling.attempt(_message(telling, calls), past=1)


def _message(telling: Telling, calls: Calls) -> Reading[None]:
    tape = telling.tape
    try:
        name, channel = yield from _header(tape)
    except Truncated:
        _forget(tape)
        return
    if name:
        yield from _call(tape, calls, name)
        return
    tape.tell()
    yield from _body(telling, Thought if channel == "analysis" else Said)


def _forget(tape: Tape) -> None:
    """A header that is cut off says nothing; other text does. Raises Malformed for that."""
    if not tape.text[tape.told :].lstrip().startswith("<|"):
        raise Malformed
    tape.at = len(tape.text)
    tape.tell()


def _header(tape: Tape) -> Reading[tuple[str, str]]:
    """The function that is called, or "", and the channel. Raises Malformed."""
    yield from tape.blank()
    begun = yield from tape.expect(START, CHANNEL, "to=")
    tape.at -= len(begun)
    while (end := tape.text.find(MESSAGE, tape.at)) < 0:
        if len(tape.text) - tape.at > _LONGEST:
            raise Malformed
        yield from tape.more()
    header = _HEADER.fullmatch(tape.text, tape.at, end)
    if header is None:
        raise Malformed
    tape.at = end + len(MESSAGE)
    recipient = header["first"] or header["second"] or ""
    if recipient and not recipient.startswith(_FUNCTIONS):
        raise Malformed
    return recipient.removeprefix(_FUNCTIONS), header["channel"] or ""


def _call(tape: Tape, calls: Calls, name: str) -> Reading[None]:
    yield calls.begin(name)
    yield from json_text.stream(tape, calls)
    yield calls.end()
    yield from tape.close(*ENDS)


def _body(telling: Telling, kind: Kind) -> Reading[None]:
    """Up to the mark that ends the message, or begins the next one."""
    telling.after = "mark"
    mark = yield from telling.text(kind, (*ENDS, START))
    if mark in ENDS:
        telling.skip(mark)
