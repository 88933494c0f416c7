"""What a run leaves behind: tables, JSON and a picture."""

import json
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import msgspec
from rich.console import Console

from lmx.bench import picture, report
from lmx.bench.budgets import Budget
from lmx.bench.runner import Measured
from tests.bench.test_budgets import found


def both() -> report.Report:
    """lmx and a peer, which failed in one workload."""
    mine = found(solo_speed=0.97, stall_gap=0.8, overhead_cpu=0.02)
    peer = Measured(
        workload="solo", site="peer & co", ratios={"speed": 0.5}, spread={"speed": (0.4, 0.6)},
        facts={}, ideal={}, rounds=1,
    )  # fmt: skip
    fault = Measured(
        workload="stall", site="peer & co", ratios={}, spread={}, facts={}, ideal={}, rounds=0, fault="gone"
    )
    return msgspec.structs.replace(mine, measured=(*mine.measured, peer, fault))


def test_the_table_has_a_column_for_each_server() -> None:
    """With budgets, and the reason why there is no number."""
    out = StringIO()
    report.show(both(), {"solo.speed": Budget(at_least=0.9)}, Console(file=out, width=140))
    [line] = [line for line in out.getvalue().splitlines() if line.startswith("solo.speed")]
    assert "0.970" in line
    assert "0.500" in line
    assert "≥ 0.9" in line
    assert "stall on peer & co: gone" in out.getvalue()


def test_the_json_is_the_whole_report(tmp_path: Path) -> None:
    """It can be read back."""
    report.write_json(both(), tmp_path / "new" / "bench.json")
    text = (tmp_path / "new" / "bench.json").read_bytes()
    assert msgspec.json.decode(text, type=report.Report) == both()
    assert json.loads(text)["measured"][0]["ratios"] == {"speed": 0.97}


def test_the_picture_has_a_bar_for_each_number() -> None:
    """One more rectangle is the ground, and one for each server is the legend. A name may hold any character."""
    root = ElementTree.fromstring(picture.draw(both()))
    rectangles = root.findall("{http://www.w3.org/2000/svg}rect")
    words = [element.text for element in root.findall("{http://www.w3.org/2000/svg}text")]
    assert len(rectangles) == 1 + 2 + 4
    assert "peer & co" in words
    assert "0.97" in words


def test_goodness_grows_with_what_is_better() -> None:
    """1 is the ideal; a cost has its ideal at 0."""
    assert report.ratio("solo.speed").goodness(0.5) == 0.5
    assert report.ratio("mlx-stall.gap").goodness(2.0) == 0.5
    assert report.ratio("overhead.cpu").goodness(0.0) == 1.0
