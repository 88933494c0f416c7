"""A JSON schema on every row: what constraining costs, and whether it holds."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from lmx.bench.lab import Lab, chat, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Answer, Ask
from lmx.bench.workloads.base import Facts, Ratio, Workload

ROWS = 8
ROOM = 1500
"""Far more tokens than an answer of this schema can have."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 8, "maxLength": 32},
        "kind": {"enum": ["small", "medium", "large"]},
        "items": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 4, "maxLength": 20},
                    "count": {"type": "integer", "minimum": 0, "maximum": 9999},
                    "found": {"type": "boolean"},
                },
                "required": ["name", "count", "found"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "kind", "items"],
    "additionalProperties": False,
}


class Json(Workload):
    """The plain rows write as many tokens as the constrained ones did."""

    name = "json"
    about = "8 rows that must match a JSON schema"
    only_lmx = True
    gives: ClassVar = {
        "speed": Ratio("tokens per second while all rows run ÷ the same without a schema"),
        "valid": Ratio("share of replies that parse and match the schema"),
    }

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        constrained = [self._constrained(site, f"{seed} json {row}") for row in range(ROWS)]
        replies = lab.ask(site, constrained)
        tokens = max(reply.tokens for reply in replies)
        plain = lab.ask(site, [chat(site, [user(text(40, f"{seed} plain {row}"))], tokens) for row in range(ROWS)])
        return {
            "json_tokens_per_second": together(replies),
            "plain_tokens_per_second": together(plain),
            "valid_share": sum(matches(reply.text) for reply in replies) / ROWS,
            "tokens": sum(reply.tokens for reply in replies),
        }

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        speed = facts["json_tokens_per_second"] / facts["plain_tokens_per_second"]
        return {"speed": speed, "valid": facts["valid_share"]}

    def _constrained(self, site: Site, seed: str) -> Ask:
        ask = chat(site, [user(text(40, seed))], ROOM)
        schema = {"type": "json_schema", "json_schema": {"name": "bench", "strict": True, "schema": SCHEMA}}
        body = {name: value for name, value in ask.body.items() if name != "ignore_eos"}
        return msgspec.structs.replace(ask, body=body | {"response_format": schema})


def together(answers: Sequence[Answer]) -> float:
    """Tokens per second of all rows in the time when every one of them writes."""
    begin = max(answer.first for answer in answers)
    end = min(answer.stamps[-1] for answer in answers if answer.stamps)
    if end <= begin:
        return sum(answer.tokens for answer in answers) / max(answer.ended for answer in answers)
    return sum(_within(answer, begin, end) for answer in answers) / (end - begin)


def _within(answer: Answer, begin: float, end: float) -> float:
    """Tokens of this time: a chunk may hold several, all chunks of a row are taken to hold as many."""
    chunks = sum(begin < stamp <= end for stamp in answer.stamps)
    return chunks * answer.tokens / len(answer.stamps)


def matches(reply: str) -> bool:
    """Whether it is JSON and follows the schema, as a validator that lmx does not use sees it."""
    import jsonschema

    try:
        jsonschema.validate(json.loads(reply), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
