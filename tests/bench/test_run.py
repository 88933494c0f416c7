"""The bench as a whole, with a tiny model that it makes itself: real servers, real bare loops."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from lmx.bench import models
from lmx.bench.cli import BUDGETS
from lmx.bench.lab import WORDS, Lab, complete
from lmx.bench.models import BenchModel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache folder, as on a fresh machine."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(cache: Path) -> BenchModel:
    return models.cached("tiny", "q8_0")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmx.bench", "--threads", "1", "--peers", "none", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.mark.slow
def test_the_model_says_its_circle(model: BenchModel) -> None:
    """One token a chunk, the next of the circle each time, quantised as it is: the lookup workload stands on this."""
    tokenizer = Tokenizer.from_file(str(model.mlx / "tokenizer.json"))
    assert all(len(tokenizer.encode(word).ids) == len(tokenizer.encode(f" {word}").ids) == 1 for word in WORDS)
    lab = Lab(model.gguf, model, threads=1)
    try:
        [answer] = lab.ask(lab.main, [complete(lab.main, model.circle[:1], 12)])
    finally:
        lab.close()
    assert answer.text == tokenizer.decode(model.circle[1:13])
    assert answer.tokens == 12


@pytest.mark.slow
def test_a_quick_run_ends_well(model: BenchModel, tmp_path: Path) -> None:
    """Ratios, JSON and picture of real measurements; no faults."""
    done = bench("--quick", "--only", "solo,prefix", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    ratios = {f"{row['workload']}.{name}": value for row in report["measured"] for name, value in row["ratios"].items()}
    assert ratios.keys() == {"solo.speed", "prefix.ttft"}
    assert all(value > 0 for value in ratios.values())
    assert not [row["fault"] for row in report["measured"] if row["fault"]]
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_the_gate_fails_on_a_budget_that_cannot_be_kept(model: BenchModel, tmp_path: Path) -> None:
    """Exit code 1, by the way that the command takes."""
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[solo]\nspeed = { at_least = 1e9 }\n")
    done = bench("--quick", "--only", "solo", "--out", str(tmp_path), "--gate", "--budgets", str(budgets))
    assert done.returncode == 1
    assert "broken: solo.speed" in done.stdout


def test_a_mistake_is_one_sentence() -> None:
    """Exit code 64."""
    done = bench("--only", "nope")
    assert done.returncode == 64
    assert done.stderr.startswith("bench: There is no nope here, only solo, ")


def test_the_workloads_are_listed() -> None:
    """With what each yields, and in which direction it gets better."""
    done = bench("--list")
    assert "solo.speed: " in done.stdout
    assert "mlx-stall.gap: " in done.stdout
    assert BUDGETS.exists()
