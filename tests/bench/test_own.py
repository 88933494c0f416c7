"""`lmx bench`, for a user's own model."""

import json
from pathlib import Path

import pytest

from lmx.bench import models
from lmx.cli import run


def test_a_model_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit code 64, before anything is started."""
    assert run(["bench", "nope.gguf"]) == 64
    assert capsys.readouterr().err.startswith("lmx: nope.gguf does not exist")


def test_only_what_means_something_for_any_model_can_be_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The others need models that the bench makes."""
    assert run(["bench", str(tmp_path), "--only", "lookup"]) == 64
    assert "There is no lookup here, only solo, conc8, stall, prefix." in capsys.readouterr().err


@pytest.mark.slow
def test_an_mlx_folder_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against mlx-lm's own batch generator; progress goes to stderr, so that stdout is the report."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = models.cached("tiny", "f16").mlx
    assert run(["bench", str(folder), "--only", "prefix", "--rounds", "1", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["measured"]
    assert row["site"] == "lmx"
    assert row["ratios"]["ttft"] > 0
    assert row["ideal"]["ttft"] > 0
