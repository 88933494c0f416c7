"""The scripts a fresh machine starts with: what is missing is told in one sentence, and nothing is done twice."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "basename", "cksum", "dirname", "ls", "mkdir", "rm", "sed", "git")

OLD_PYTHON = """#!/bin/sh
[ "$1" = --version ] && echo "Python 3.9.2" && exit 0
exit 1
"""
ECHO = """#!/bin/sh
for word in "$@"; do echo "$word"; done
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the scripts need of a clone, and `bin`: the only folder on the PATH."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def call(clone: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as on a bare machine: an empty home, no stdin, only `bin` to find programs in."""
    environ = {"PATH": str(clone / "bin"), "HOME": str(clone)}
    command = [str(clone / "scripts" / script), *arguments]
    return subprocess.run(
        command, cwd="/", env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a script that gave up."""
    assert done.returncode != 0
    assert done.stdout == ""
    notes = [line for line in done.stderr.splitlines() if not line.startswith("Setting up")]
    assert len(notes) == 1
    return notes[0]


@pytest.mark.parametrize("script", ["serve", "test"])
def test_a_too_old_python_is_told(clone: Path, script: str) -> None:
    """The sentence names the version that was found and the one that is needed."""
    program(clone / "bin" / "python3", OLD_PYTHON)
    program(clone / "bin" / "c++", ECHO)
    expected = f"{script}: lmx needs Python 3.11 or newer, found Python 3.9.2: install one and run this again."
    assert refusal(call(clone, script)) == expected


def test_no_python_at_all_is_told(clone: Path) -> None:
    """The same sentence."""
    assert "needs Python 3.11 or newer, found none" in refusal(call(clone, "serve"))


@pytest.mark.parametrize(("script", "arguments"), [("serve", ("--model", "x.gguf")), ("test", ())])
def test_a_missing_compiler_is_told(clone: Path, script: str, arguments: tuple[str, ...]) -> None:
    """Before anything is downloaded."""
    (clone / "bin" / "python3").symlink_to(sys.executable)
    assert "need a C++ compiler" in refusal(call(clone, script, *arguments))
    assert not (clone / ".venv").exists()


def test_a_missing_git_is_told(clone: Path) -> None:
    """The test suite needs it."""
    (clone / "bin" / "git").unlink()
    assert refusal(call(clone, "test")) == "test: the tests need git: install it and run this again."


@pytest.fixture
def ready(clone: Path) -> Path:
    """A clone whose .venv was set up for MLX; its lmx prints what it is called with."""
    program(clone / ".venv" / "bin" / "python", "#!/bin/sh\n")
    program(clone / ".venv" / "bin" / "lmx", ECHO)
    with (clone / "pyproject.toml").open() as file:
        cksum = subprocess.run(["cksum"], stdin=file, capture_output=True, text=True, check=True).stdout
    (clone / ".venv" / "lmx-setup").write_text(f"1 {cksum}")
    return clone


def test_what_is_set_up_is_not_set_up_again(ready: Path) -> None:
    """serve starts lmx at once and passes its arguments on as they are."""
    done = call(ready, "serve", "--model", "my models/a", "--port", "8000")
    assert (done.stdout, done.stderr) == ("serve\n--model\nmy models/a\n--port\n8000\n", "")


def test_a_changed_project_is_set_up_again(ready: Path) -> None:
    """New dependencies are there before the next start."""
    (ready / "pyproject.toml").write_text("[project]\n")
    assert "Setting up .venv" in call(ready, "serve").stderr


def test_a_gguf_model_needs_more_than_the_embedded_one(ready: Path) -> None:
    """A set-up for MLX is completed when a .gguf file is to be served."""
    assert "need a C++ compiler" in refusal(call(ready, "serve", "--model", "x.gguf"))
