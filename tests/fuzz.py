"""Random requests, valid and not, at a real server: every answer must be one that /openapi.json describes.

    .venv/bin/python -m tests.fuzz --cases 5000 --seed 1

starts a server of its own and prints what came; it ends with 1 when something was answered that is not described.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import one_of
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok

from tests.support import models
from tests.support.server import Server

KEY, ADMIN = "inference-0123456789", "admin-0123456789"
CONFIG = f"""
aliases = {{ known = "echo" }}

[keys]
inference = ["{KEY}"]
admin = "{ADMIN}"

[models.echo]
backend = "fake"
context = 512

[models.spare]
backend = "fake"
context = 512
"""
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
RANKING = """
[models.reranker]
path = "{}"
context = 512
preload = false
"""
MODELS = ("echo", "lmx-guide", "echo", "known")
TOKENS = 8
"""Of an answer: what is random is the question."""
LEAST = {"keep_alive": 60}
MOST = {"n": 2, "min_tokens": 4} | dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), TOKENS)
REFUSED = (429, 503, 504)
"""Of all that a server does wrong, what it may do."""


@dataclass
class Report:
    statuses: Counter[str] = field(default_factory=Counter)
    """How many answers, by operation and status."""
    refused: Counter[str] = field(default_factory=Counter)
    """Codes of what was refused though its body is as described: what the description cannot tell."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Requests, by what was wrong with their answer."""

    @property
    def cases(self) -> int:
        return self.statuses.total()

    def blame(self, what: str, case: Any, answer: Any) -> None:
        asked = f"{case.method} {case.formatted_path} {json.dumps(_plain(case.body))[:300]} {dict(case.headers or {})}"
        self.faults.setdefault(what, []).append(f"{asked} → {answer.status_code} {answer.text[:300]}")

    def lines(self) -> Iterator[str]:
        yield f"{self.cases} cases, {sum(map(len, self.faults.values()))} faults"
        yield from (f"  {count:6} {what}" for what, count in sorted(self.statuses.items()))
        yield from (f"  {count:6} refused though described: {what}" for what, count in self.refused.most_common())
        for what, requests_ in self.faults.items():
            yield f"FAULT ({len(requests_)} times): {what}"
            yield from (f"    {text}" for text in requests_[:3])


class Fuzz:
    def __init__(self, url: str) -> None:
        self.report = Report()
        self._url = url
        self._response = "none"
        """The latest that was made."""
        self._session = requests.Session()
        self._described = self._session.get(f"{url}/openapi.json").json()
        schema = schemathesis.openapi.from_dict(self._described)
        schema.config.update(base_url=url)
        self._operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
        assert len(self._operations) == sum(map(len, self._described["paths"].values()))

    def run(self, cases: int, start: int) -> Report:
        """At least so many; `start` is the first seed."""
        bodies = [operation for operation in self._operations if operation.body]
        others = [operation for operation in self._operations if not operation.body]
        number = start
        while self.report.cases < cases * 9 // 10:
            for operation in bodies:
                self._ask(operation, min(20, max(5, cases // len(bodies))), number)
            number += 1
            print(f"{self.report.cases} cases, {len(self.report.faults)} kinds of faults", file=sys.stderr, flush=True)
        for operation in others:
            self._ask(operation, max(4, cases // 10 // len(others)), start)
        return self.report

    def _ask(self, operation: Any, count: int, number: int) -> None:
        modes = [schemathesis.GenerationMode.POSITIVE]
        if operation.body or operation.query:
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        strategy = one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
        key = key_of(operation.path)

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def ask(case: Any) -> None:
            self._tame(case)
            answer = case.call(session=self._session, headers=key, timeout=60)
            self._check(case, answer)

        ask()

    def _tame(self, case: Any) -> None:
        """Ask models that are there, mostly, and for little."""
        pick = sum(map(ord, repr((case.body, case.path_parameters))[:200]))
        for name in case.path_parameters if pick % 4 else ():
            case.path_parameters[name] = self._named(case.operation.path, name)
        if not isinstance(case.body, dict):
            return
        if pick % 2:
            case.body = self._example(case.operation) | {
                k: v for k, v in case.body.items() if sum(map(ord, k)) % 3 == 0
            }
            case.headers.pop("x-request-timeout", None)
        body = case.body
        fields = self._fields(case.operation)
        if isinstance(body.get("model"), str) and pick % 8:
            body["model"] = "reranker" if "rerank" in case.operation.path else MODELS[pick % len(MODELS)]
        for name, bound, best in (*((n, b, min) for n, b in MOST.items()), *((n, b, max) for n, b in LEAST.items())):
            if type(body.get(name)) in (int, float) and body[name] > 0:
                body[name] = best(body[name], bound)
        limits = [name for name in MOST if name.startswith("max") and name in fields]
        if limits and not any(body.get(name) is not None for name in limits):
            body[limits[0]] = TOKENS

    def _named(self, path: str, name: str) -> str:
        """What is there."""
        if path.startswith("/v1/responses"):
            return self._response
        return {"id": "spare", "alias": "known", "actor": "model:echo"}.get(name, "nothing")

    def _check(self, case: Any, answer: Any) -> None:
        why = answer.text[:200] if answer.status_code >= 429 else ""
        self.report.statuses[f"{case.method} {case.operation.path} {answer.status_code} {why}"] += 1
        if answer.status_code >= 500 and answer.status_code not in REFUSED:
            self.report.blame("a server error", case, answer)
        try:
            case.validate_response(answer, checks=CHECKS)
        except schemathesis.errors.FailureGroup as group:
            for failure in group.exceptions:
                self.report.blame(f"{failure.title}: {failure}"[:300], case, answer)
        for fault in self._events(case, answer):
            self.report.blame(f"an event that is not described: {fault}", case, answer)
        if case.operation.path == "/v1/responses" and answer.status_code == 200 and not _is_stream(answer):
            self._response = answer.json()["id"]
        if self._is_wrong(case):
            if answer.status_code == 200:
                self.report.blame("what the description forbids was taken", case, answer)
        elif answer.status_code == 400:
            error = answer.json()["error"]
            self.report.refused[f"{case.operation.path} {error.get('code')} {error.get('param')}"] += 1

    def _is_wrong(self, case: Any) -> bool:
        """Whether the body is not what is described; null is the same as not given."""
        if not isinstance(case.body, dict | list | str | int | float | bool | None):
            return False
        content = self._operation(case.operation).get("requestBody", {}).get("content", {})
        body = case.body
        given = {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body
        return bool(content) and not self._validator(content["application/json"]["schema"]).is_valid(given)

    def _events(self, case: Any, answer: Any) -> Iterator[str]:
        if answer.status_code != 200 or not _is_stream(answer):
            return
        content = self._operation(case.operation)["responses"]["200"]["content"]["text/event-stream"]
        validator = self._validator(content["x-event-schema"])
        for line in answer.text.splitlines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield from (error.message[:300] for error in validator.iter_errors(json.loads(line[6:])))

    def _validator(self, schema: Any) -> Any:
        return jsonschema.Draft202012Validator({**schema, "components": self._described["components"]})

    def _operation(self, operation: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._described["paths"][operation.path][operation.method.lower()]
        return found

    def _example(self, operation: Any) -> dict[str, Any]:
        example: dict[str, Any] = self._operation(operation)["requestBody"]["content"]["application/json"]["example"]
        return dict(example)

    def _fields(self, operation: Any) -> set[str]:
        content = self._operation(operation).get("requestBody", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        return set(self._described["components"]["schemas"].get(name, {}).get("properties", {}))


def _is_stream(answer: Any) -> bool:
    return "event-stream" in "".join(answer.headers.get("content-type", []))


def key_of(path: str) -> dict[str, str]:
    """The header that opens it."""
    admins = path.startswith("/admin/") or path == "/metrics"
    return {"Authorization": f"Bearer {ADMIN if admins else KEY}"}


def _plain(body: Any) -> Any:
    return body if isinstance(body, dict | list | str | int | float | bool | None) else repr(body)


def serve(folder: Path) -> Server:
    """With keys, two fake models, one that ranks and the embedded one."""
    server = Server(folder, CONFIG + RANKING.format(models.gguf_file("reranker")))
    server.listen()
    return server


def fuzz(url: str, cases: int, start: int) -> Report:
    return Fuzz(url).run(cases, start)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random requests; every answer must be one that is described.")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = serve(Path(folder))
        began = time.monotonic()
        try:
            report = fuzz(server.url, asked.cases, asked.seed)
        finally:
            server.stop()
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s", *report.lines(), sep="\n")
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
