"""What is shipped: the wheel holds everything, and runs from any folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lmx

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_code_pages_and_the_embedded_model(wheel: Path) -> None:
    """Nothing that the server needs at run time is left in the repository."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "lmx/http/application.py",
        "lmx/http/static/index.html",
        "lmx/guide/lmx-guide.gguf",
        "lmx/guide/mlx/model.safetensors",
        "lmx/guide/canary.json",
        "lmx/ops/launchd/com.lmx.server.plist",
        "lmx/ops/systemd/lmx.service",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("actors/", "machines/", "http/", "tests/"))]


def test_it_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    """Unpacked somewhere else, `python -m lmx` finds its parts and nobody else's."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import lmx.cli; print(lmx.__file__); lmx.cli.main()"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "site"), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    where, version = ended.stdout.split("\n")[:2]
    assert where.startswith(str(tmp_path))
    assert lmx.__version__ in version
