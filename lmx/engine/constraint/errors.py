"""Why a constraint is refused, in words for the user."""

import re

from lmx.machines.types import Constraint

PARAMS = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "regex",
    "lark": "grammar",
    "gbnf": "grammar",
    "choice": "choice",
}
FUNCTIONS = "tools"
NAMES = {
    "response_format": "schema",
    "regex": "pattern",
    "grammar": "grammar",
    "choice": "choice",
    FUNCTIONS: "functions",
}
SHOWN = 300
"""Characters of llguidance's own words that are shown."""

_KEYWORDS = re.compile(r"Unimplemented keys: \[(.*)\]")


class ConstraintError(Exception):
    """The constraint cannot be honoured. `param` is the request's field that asked for it."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def refused(constraint: Constraint | None, problem: str) -> ConstraintError:
    """`problem` is a sentence; without a constraint it is the functions'."""
    param = _param(constraint)
    return ConstraintError(f"Invalid '{param}': {problem}", param)


def in_words(constraint: Constraint | None, problem: str) -> str:
    """What llguidance says of a grammar that it does not take, as a sentence."""
    name = NAMES[_param(constraint)]
    if found := _KEYWORDS.search(problem):
        keywords = found[1].replace('"', "'")
        return f"the schema uses keywords that cannot be honoured: {keywords}."
    if "oneOf constraints are not supported" in problem:
        return "'oneOf' can only be honoured where its options visibly exclude each other; use 'anyOf'."
    if "NoExtension" in problem or "Unsatisfiable" in problem:
        return f"nothing can match the {name}{_reason(problem.partition('Unsatisfiable schema')[2])}."
    return f"the {name} cannot be compiled{_reason(problem)}."


def _param(constraint: Constraint | None) -> str:
    return FUNCTIONS if constraint is None else PARAMS[constraint.kind]


def _reason(problem: str) -> str:
    """What matters of it, introduced by a colon; a panic's place in the source tells nobody anything."""
    lines = problem.strip(": \n").splitlines() or [""]
    line = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0]).strip()
    return f": {line[:SHOWN].removesuffix('.')}" if line and not line.startswith("panic") else ""
