"""Who may catch everything."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DECISION = ROOT / "docs" / "decisions" / "0009-where-everything-is-caught.md"


def nets() -> Iterator[tuple[str, str]]:
    """File and function of every `except` for all exceptions."""
    for file in sorted((ROOT / "lmx").rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
                if any(catches_all(handler.type) for handler in handlers):
                    yield file.relative_to(ROOT / "lmx").as_posix(), function.name


def catches_all(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    names = [one.id if isinstance(one, ast.Name) else None for one in kinds if one is not None]
    return kind is None or "Exception" in names or "BaseException" in names


def test_every_net_has_a_reason() -> None:
    """An `except` that catches everything stands in the decision, and what stands there exists."""
    rows = [line.split("|")[1].split("`") for line in DECISION.read_text().splitlines() if line.startswith("| `")]
    named = {(row[1], row[3].rpartition(".")[2]) for row in rows}
    assert set(nets()) == named
