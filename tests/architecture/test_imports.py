"""Who may import whom, as docs/architecture.md says."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lmx"

# folder → what of ours it may import (module prefixes), and which third-party packages
OURS: dict[str, set[str]] = {
    "machines": {"lmx.machines"},
    "formats": {"lmx.formats", "lmx.machines.speech", "lmx.machines.limits"},
    "actors/messages": {
        "lmx.actors.messages",
        "lmx.machines.types",
        "lmx.machines.speech",
        "lmx.machines.tasks",
        "lmx.machines.frames",
        "lmx.machines.canary",
        "lmx.machines.lasting",
    },
    "actors": {"lmx.actors", "lmx.machines"},
    "http": {
        "lmx.http",
        "lmx.actors.messages",
        "lmx.formats",
        "lmx.machines.types",
        "lmx.machines.speech",
        "lmx.machines.tasks",
        "lmx.machines.limits",
        "lmx",
    },
    "engine": {
        "lmx.engine",
        "lmx.backends.base",
        "lmx.formats",
        "lmx.backends.pictures",
        "lmx.backends.registry",
        "lmx.machines.types",
        "lmx.machines.speech",
        "lmx.machines.tasks",
        "lmx.machines.frames",
        "lmx.machines.limits",
    },
    "backends": {"lmx.backends", "lmx.machines.types", "lmx.machines.speech", "lmx.machines.frames"},
    "bench": {"lmx.bench", "lmx.engine.process", "lmx.machines.types", "lmx.machines.frames", "lmx"},
    "": {"lmx"},
}
THIRD_PARTY: dict[str, set[str]] = {
    "machines": {"statemachine", "msgspec"},
    "formats": {"msgspec"},
    "actors/messages": {"msgspec"},
    "actors": {"pykka", "prometheus_client", "structlog", "msgspec"},
    "http": {"aiohttp", "msgspec", "prometheus_client", "structlog", "swagger_ui_bundle"},
    "engine": {"msgspec", "numpy", "jinja2", "llguidance", "psutil", "structlog"},
    "backends": {"msgspec", "numpy", "jinja2", "llguidance", "psutil", "structlog"},
    "backends/llama_cpp": {"llama_cpp", "msgspec", "numpy", "psutil"},
    "backends/mlx": {"mlx", "mlx_lm", "msgspec", "numpy", "tokenizers", "transformers"},
}
FORBIDDEN_STANDARD: dict[str, set[str]] = {
    "formats": {"threading", "time", "logging", "asyncio", "random", "os"},
    "machines": {"threading", "time", "logging", "asyncio", "random", "os"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def folder_of(file: Path) -> str:
    return file.parent.relative_to(PACKAGE).as_posix().removeprefix(".")


def closest(folder: str, table: dict[str, set[str]]) -> set[str] | None:
    """The entry of the folder or of its nearest parent."""
    while folder not in table and "/" in folder:
        folder = folder.rpartition("/")[0]
    return table.get(folder)


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_house_rules(file: Path) -> None:
    """Each folder imports only what its row of the table allows."""
    folder = folder_of(file)
    ours, third = closest(folder, OURS), closest(folder, THIRD_PARTY)
    standard = closest(folder, FORBIDDEN_STANDARD) or set()
    for name in imports(file):
        top = name.partition(".")[0]
        if top == "lmx":
            assert ours is not None
            # `lmx` alone stands for the version: `from lmx import __version__`.
            allowed = name == "lmx.__version__" if within("lmx", ours) and folder else False
            assert allowed or within(name, ours - {"lmx"} if folder else ours), f"{file}: {name}"
        elif top in sys.stdlib_module_names:
            assert top not in standard, f"{file}: {name}"
        elif third is not None:
            assert top in third, f"{file}: {name}"


def test_only_the_composition_root_imports_itself() -> None:
    """lmx/*.py is imported by __main__ and its neighbours, never by a layer."""
    roots = {f"lmx.{file.stem}" for file in PACKAGE.glob("*.py")} - {"lmx.__init__"}
    for file in FILES:
        if folder_of(file):
            assert not [name for name in imports(file) if within(name, roots)], file


def test_the_inference_libraries_are_imported_in_one_place_each() -> None:
    """mlx, mlx_lm and llama_cpp live behind their backend; the main process never sees them."""
    for file in FILES:
        tops = {name.partition(".")[0] for name in imports(file)}
        folder = folder_of(file)
        bench = closest(folder, {"bench": set()}) is not None  # has bare loops, and is never part of a server
        assert bench or folder == "backends/mlx" or not tops & {"mlx", "mlx_lm"}, file
        assert bench or folder == "backends/llama_cpp" or "llama_cpp" not in tops, file


def test_the_bench_is_a_client() -> None:
    """It measures what users get: only the command line imports it, and it imports nothing of what it measures."""
    for file in FILES:
        if not folder_of(file).startswith("bench"):
            assert file.name == "cli.py" or not [name for name in imports(file) if within(name, {"lmx.bench"})], file


def test_http_does_not_shadow_the_standard_library() -> None:
    """With the repository root on sys.path, `http.client` is still Python's: no __init__.py in either place."""
    assert not (PACKAGE / "http" / "__init__.py").exists()
    assert not (ROOT / "tests" / "http" / "__init__.py").exists()
    assert str(ROOT) in sys.path
    import http.client

    assert "lmx" not in str(http.client.__file__)


def test_the_first_listing_shows_the_layers() -> None:
    """actors, machines and http stand at the top of the repository as relative links."""
    for layer in ("actors", "machines", "http"):
        link = ROOT / layer
        assert link.is_symlink()
        assert str(link.readlink()) == f"lmx/{layer}"
