"""Files and functions stay small enough to be read; hooks are spelt like the states they belong to."""

import ast
from pathlib import Path
from statistics import median

import pytest

from lmx.machines.base import Machine
from lmx.machines.diagrams import MACHINES

PACKAGE = Path(__file__).parents[2] / "lmx"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION, MEDIAN_FUNCTION = 300, 40, 8


def functions(file: Path) -> list[tuple[str, int]]:
    tree = ast.parse(file.read_text())
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in nodes]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_room_outgrows_its_size(file: Path) -> None:
    """Over budget means that a noun is missing."""
    assert len(file.read_text().splitlines()) <= MAX_FILE
    assert [name for name, lines in functions(file) if lines > MAX_FUNCTION] == []


def test_the_median_function_is_short() -> None:
    """Half of all functions have at most eight lines."""
    assert median(lines for file in FILES for _, lines in functions(file)) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_every_hook_names_a_real_state_or_event(machine: type[Machine]) -> None:
    """A misspelt on_enter_* is silently never called by python-statemachine."""
    states = {str(state.id) for state in machine.states}
    events = {name for state in machine.states for t in state.transitions for name in t.event.split()}
    for name in vars(machine):
        kind, _, subject = name.partition("_")
        if kind == "on" and subject.startswith(("enter_", "exit_")):
            assert subject.partition("_")[2] in states, name
        elif kind in ("on", "before", "after"):
            assert subject in events, name
