"""Which models there are: those given by flag, those of the config, and the embedded guide. Nothing is loaded here."""

import json
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from sys import platform
from typing import Literal

from lmx.config import Config, Defaults, ModelConfig
from lmx.http.presets import PREFIX
from lmx.machines.types import BackendName, ModelSpec
from lmx.naming import CatalogError, check_aliases, default_first, own_models

__all__ = ["GUIDE", "CatalogError", "catalog", "preloaded"]

GUIDE = "lmx-guide"

Real = Literal["mlx", "llama_cpp"]
"""Backends that need an extra."""

_GUIDE_FILES: dict[Real, Path] = {
    "mlx": Path(__file__).parent / "guide" / "mlx",
    "llama_cpp": Path(__file__).parent / "guide" / "lmx-guide.gguf",
}
_MODULES: dict[Real, str] = {"mlx": "mlx_lm", "llama_cpp": "llama_cpp"}
_EXTRAS: dict[Real, str] = {
    "mlx": "the mlx extra: pip install 'lmx[mlx]', or ./scripts/serve in a clone",
    "llama_cpp": (
        "the gguf extra, which compiles llama-cpp-python with a C++ compiler: pip install 'lmx[gguf]', "
        "or ./scripts/serve FILE.gguf in a clone"
    ),
}


def catalog(config: Config, model_flags: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
    """Every model that may be loaded: `--model` flags ([NAME=]PATH) first, then the config's, lmx-guide, and presets.

    The default model is moved to the front: it answers requests that name none.
    Raises CatalogError for a file that is missing or no model, and for a backend that is not installed.
    """
    taken = set(config.models)
    try:
        specs = [_flagged(flag, config, taken) for flag in model_flags]
    except OSError as error:
        raise CatalogError(f"{error.filename} cannot be read ({error.strerror}): check its permissions.") from None
    specs += [_spec(name, model, config) for name, model in config.models.items()]
    if config.guide or not specs:
        specs += _guide(config, needed=not specs, taken=taken)
    specs += own_models(config, specs)
    check_aliases(config, specs)
    for spec in specs:
        _check_template(spec)
    return default_first(config, specs)


def preloaded(config: Config, specs: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """The models to load at the start: all that do not say otherwise; the guide only when it is the default."""
    late = {name for name, model in config.models.items() if not model.preload}
    late |= {PREFIX + name for name, preset in config.presets.items() if not preset.preload}
    if specs[0].name != GUIDE and GUIDE not in config.models:
        late.add(GUIDE)
    return tuple(spec for spec in specs if spec.name not in late)


def _flagged(flag: str, config: Config, taken: set[str]) -> ModelSpec:
    name, path = _parsed(flag)
    if name and name in taken:
        raise CatalogError(f"--model {flag}: there is already a model named {name}, give it another name.")
    name = name or _unique(path.name if path.is_dir() else path.stem, taken)
    taken.add(name)
    return _spec(name, ModelConfig(path=str(path)), config)


def _parsed(flag: str) -> tuple[str, Path]:
    """("", path) or (name, path); a path that exists may hold a `=` itself."""
    name, sign, path = flag.partition("=")
    if not sign or _path(flag).exists():
        return "", _path(flag)
    if not name or not path:
        raise CatalogError(f"--model {flag}: expected PATH or NAME=PATH.")
    return name, _path(path)


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))


def _unique(name: str, taken: Iterable[str]) -> str:
    """`name`, or `name-2`, `name-3` … when it is taken."""
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _spec(name: str, model: ModelConfig, config: Config) -> ModelSpec:
    if model.backend == "fake":
        return _filled(name, model, config, "fake")
    kind = _kind(Path(model.path))
    if model.backend not in ("auto", kind):
        raise CatalogError(f"{model.path} is a model for {kind}, but models.{name}.backend is {model.backend}.")
    if not _available(kind):
        raise CatalogError(f"{model.path} needs {_EXTRAS[kind]}.")
    return _filled(name, model, config, kind)


def _filled(name: str, model: ModelConfig, config: Config, backend: BackendName) -> ModelSpec:
    """Everything that the model does not set itself comes from `[defaults]`."""
    shared = {key: getattr(config.defaults, key) for key in Defaults.__struct_fields__}
    own = {key: value for key in shared if (value := getattr(model, key)) is not None}
    return ModelSpec(
        name=name,
        path=model.path,
        backend=backend,
        draft=model.draft,
        mmproj=model.mmproj,
        adapters=tuple(model.adapters),
        chat_template=model.chat_template,
        cache_dir=str(Path(config.state_dir) / "prefixes"),
        pinned=model.pinned,
        script=model.script,
        **shared | own,
    )


def _check_template(spec: ModelSpec) -> None:
    """That its text is Jinja is found out where it is loaded."""
    if not spec.chat_template:
        return
    try:
        Path(spec.chat_template).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CatalogError(f"{spec.chat_template}, the chat template of {spec.name}, does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise CatalogError(f"{spec.chat_template}, the chat template of {spec.name}, cannot be read: {why}.") from None


def _kind(path: Path) -> Real:
    """The backend for a file or folder, judged by its first bytes."""
    try:
        if path.is_dir():
            return _folder(path)
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise CatalogError(f"{path} does not exist: give the path of a .gguf file or of an mlx-lm folder.") from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if path.suffix.lower() != ".gguf":
        raise CatalogError(f"{path} is no model: give a .gguf file or an mlx-lm folder with a config.json.")
    if magic != b"GGUF":
        raise CatalogError(f"{path} is no GGUF file although it is called so: download it again.")
    return "llama_cpp"


def _folder(path: Path) -> Real:
    config = path / "config.json"
    if not config.exists():
        raise CatalogError(f"{path} has no config.json: give an mlx-lm folder or a .gguf file.")
    try:
        json.loads(config.read_bytes())
    except ValueError:
        raise CatalogError(f"{config} is not JSON: download the model again.") from None
    return "mlx"


def _available(backend: Real) -> bool:
    return find_spec(_MODULES[backend]) is not None


def _guide(config: Config, *, needed: bool, taken: Iterable[str]) -> list[ModelSpec]:
    """The embedded model on the first backend that is installed; [] when there is none and it is not `needed`."""
    if GUIDE in taken:
        return []
    preferred: list[Real] = ["mlx", "llama_cpp"] if platform == "darwin" else ["llama_cpp", "mlx"]
    for backend in filter(_available, preferred):
        if _GUIDE_FILES[backend].exists():
            return [_filled(GUIDE, ModelConfig(path=str(_GUIDE_FILES[backend])), config, backend)]
    if needed and any(map(_available, preferred)):
        raise CatalogError("The embedded model lmx-guide is missing from this installation: install lmx again.")
    if needed:
        needs = f"needs the mlx or the gguf extra: {_EXTRAS['mlx'].partition(': ')[2]}"
        raise CatalogError(f"The embedded model lmx-guide {needs}.")
    return []
