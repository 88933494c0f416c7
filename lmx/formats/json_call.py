"""A call that is one JSON object: {"name": …, "arguments": {…}}."""

import re
from collections.abc import Sequence

from lmx.formats import json_text, values
from lmx.formats.base import Calls
from lmx.formats.tape import Malformed, Reading, Tape, Truncated

ARGUMENTS = ("arguments", "parameters")

_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


def read(tape: Tape, calls: Calls, first: Sequence[str] = ()) -> Reading[None]:
    """It has ended when its arguments have. Members of other names are passed over, but for an id. Raises Malformed.

    `first` are the names that the first member may have, where other JSON is to be told apart early.
    """
    yield from tape.expect("{")
    fields: dict[str, str] = {}
    while key := (yield from _key(tape, first=not fields)):
        if first and not fields and key not in first:
            raise Malformed
        if key in ARGUMENTS and "name" in fields and (yield from tape.peek()) == "{":
            yield calls.begin(fields["name"], _id(fields))
            yield from json_text.stream(tape, calls)
            yield calls.end()
            yield from _rest(tape)
            return
        raw = yield from json_text.value(tape)
        _keep(fields, "arguments" if key in ARGUMENTS else key, raw, calls)
    if "name" not in fields:
        raise Malformed
    yield calls.begin(fields["name"], _id(fields))
    yield calls.arguments(fields.get("arguments", "{}"))
    yield calls.end()


def _id(fields: dict[str, str]) -> str:
    found = fields.get("id", "")
    return found if _ID.fullmatch(found) else ""


def _key(tape: Tape, *, first: bool) -> Reading[str]:
    """The next member's name, read up to its value; "" after the last one."""
    yield from tape.blank()
    if first:
        if (yield from tape.maybe("}")):
            return ""
    elif (yield from tape.expect(",", "}")) == "}":
        return ""
    yield from tape.blank()
    if (yield from tape.peek()) != '"':
        raise Malformed
    key = str(json_text.parsed((yield from json_text.value(tape))))
    yield from tape.blank()
    yield from tape.expect(":")
    yield from tape.blank()
    return key or " "


def _keep(fields: dict[str, str], key: str, raw: str, calls: Calls) -> None:
    parsed = json_text.parsed(raw)
    if key == "arguments":
        fields[key] = _object(raw)
    elif isinstance(parsed, str):
        fields[key] = parsed
        if key == "name":
            calls.function(parsed)
    else:
        fields[key] = ""


def _object(raw: str) -> str:
    """Arguments that may have come as text in JSON, or as null. Raises Malformed if they are no object."""
    parsed = json_text.parsed(raw)
    if parsed in (None, ""):
        return "{}"
    if isinstance(parsed, str):
        raw = values.checked(parsed)
        parsed = json_text.parsed(raw)
    if not isinstance(parsed, dict):
        raise Malformed
    return raw


def _rest(tape: Tape) -> Reading[None]:
    """Members after the arguments, which say nothing more. What is no such member is text."""
    try:
        while (yield from _key(tape, first=False)):
            yield from json_text.value(tape)
    except Truncated:
        tape.at = len(tape.text)
    except Malformed:
        tape.at = tape.told
    tape.tell()
