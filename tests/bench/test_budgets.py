"""The gate: budgets are read, a regression fails, and what was not measured is said."""

from pathlib import Path

import pytest
import typer

from lmx.bench import budgets as slo
from lmx.bench import cli, report
from lmx.bench.budgets import Budget
from lmx.bench.report import Machine, Report
from lmx.bench.runner import Measured
from lmx.bench.session import NAMES, chosen
from lmx.bench.wire import BenchError

BUDGETS = {"solo.speed": Budget(at_least=0.9), "stall.gap": Budget(at_most=1.5)}


def found(**ratios: float) -> Report:
    """A report of lmx with these ratios (`solo_speed=1.0`)."""
    rows = []
    for name, value in ratios.items():
        workload, _, ratio = name.partition("_")
        rows.append(
            Measured(
                workload=workload, site="lmx", ratios={ratio: value}, spread={ratio: (value, value)},
                facts={"seconds": 1.0}, ideal={}, rounds=1,
            )
        )  # fmt: skip
    machine = Machine("Linux", "x86_64", 2, 8_000_000_000, 0.0)
    return Report(model="bench-tiny", when="2026-01-01T00:00:00Z", machine=machine, measured=tuple(rows), seconds=1.0)


def test_kept_budgets_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Bounds are inclusive."""
    cli.judge(BUDGETS, found(solo_speed=0.9, stall_gap=1.5))
    assert "All 2 budgets are kept." in capsys.readouterr().out


def test_a_regression_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the line names the ratio, its value and its budget."""
    with pytest.raises(typer.Exit) as exit_:
        cli.judge(BUDGETS, found(solo_speed=0.85, stall_gap=1.0))
    assert exit_.value.exit_code == 1
    assert "broken: solo.speed is 0.850 (budget ≥ 0.9)" in capsys.readouterr().out


def test_a_ratio_that_was_not_measured_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A budget that nobody looks at protects nobody."""
    with pytest.raises(typer.Exit):
        cli.judge(BUDGETS, found(solo_speed=1.0))
    assert "missing: stall.gap was not measured (budget ≤ 1.5)" in capsys.readouterr().out


def test_the_committed_budgets_are_of_ratios_that_exist() -> None:
    """And each bounds the direction in which its ratio gets worse."""
    for name, budget in slo.read(cli.BUDGETS, report.known()).items():
        bound = budget.at_least if report.ratio(name).better == "higher" else budget.at_most
        assert bound is not None, name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[solo]\nsped = { at_least = 1 }", "there is no ratio solo.sped"),
        ("[solo]\nspeed = { atleast = 1 }", "atleast"),
        ("[solo]\nspeed = 1", "Expected `object`"),
        ("[solo", "Expected ']'"),
    ],
)
def test_a_mistake_in_the_budgets_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    """With the file's name."""
    file = tmp_path / "budgets.toml"
    file.write_text(text)
    with pytest.raises(BenchError, match=r"budgets\.toml: ") as error:
        slo.read(file, report.known())
    assert complaint in str(error.value)


def test_only_known_workloads_can_be_chosen() -> None:
    """In their own order, whatever order they were given in."""
    assert chosen("conc8, solo", NAMES) == ["solo", "conc8"]
    assert chosen("", NAMES) == list(NAMES)
    with pytest.raises(BenchError, match="There is no conc9 here"):
        chosen("conc9", NAMES)
