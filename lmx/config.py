"""What a user may set, as frozen values. `lmx.settings` reads them; docs/config.md is generated from the docstrings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from lmx.access import Keys, Server
from lmx.model_tables import Bytes, Count, Defaults, ModelConfig, Names, PresetConfig, located
from lmx.settings import ConfigError, Key, Layer, from_names, from_toml, merge, settings

__all__ = ["Config", "ConfigError", "Defaults", "ModelConfig", "PresetConfig", "load"]

DEFAULT_FILE = "~/.lmx/config.toml"
PREFIX = "LMX_"
FILE_VARIABLE = "LMX_CONFIG"
KEY_VARIABLE = "LMX_API_KEY"
"""The key that commands send; no setting of the server."""

# The short names of the settings that are given most: `LMX_PORT` is `LMX_SERVER_PORT`, and the flag is `--port`.
SHORT = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "context": ("defaults", "context"),
    "slots": ("defaults", "slots"),
    "threads": ("defaults", "threads"),
    "prefill_chunk": ("defaults", "prefill_chunk"),
    "log_level": ("logs", "level"),
    "log_format": ("logs", "format"),
}

Seconds = Annotated[float, Meta(gt=0, le=604_800)]


class Admission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much work is taken."""

    queue: Count = 256
    """Requests that may wait, for all models together; more are refused with 429. Half of it is for `batch` too."""
    queue_per_client: Count = 64
    """Requests of one client that may wait: of one address and API key."""
    queue_seconds: Seconds = 30.0
    """How long a request may wait for its turn at a model that answers; then it is refused with 429."""
    max_in_flight: Count = 512
    """Requests from admission to the last byte, waiting ones included; more are refused with 429."""
    request_seconds: Seconds = 600.0
    """How long one request may take from admission to its last token; clients may say less (`x-request-timeout`)."""


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory that models share."""

    share: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Part of the machine's memory that loaded models may take together."""


class Liveness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How lmx makes sure that models still answer."""

    canary_idle_seconds: Seconds = 600.0
    """After so long without a request a loaded model is asked again what it was asked after its load."""


class Watchdog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who ends a daemon that hangs."""

    seconds: Annotated[float, Meta(ge=5, le=28)] = 20.0
    """How long the event loop or an actor may leave a question unanswered before lmx exits with 70, to be restarted."""


class Journal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened, on disk: `journal.db` in `state_dir`, for `lmx journal` and `lmx replay`."""

    enabled: bool = True
    """`false` = nothing of it is written."""
    days: Annotated[float, Meta(gt=0, le=3650)] = 30.0
    """Age at which entries are deleted."""
    bytes: Annotated[int, Meta(ge=1_000_000)] = 256_000_000
    """Size of the file from which on the oldest entries are deleted."""


class Responses(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `/v1/responses` stores, in `responses.db` in `state_dir`; what was used longest ago goes first."""

    count: Annotated[int, Meta(ge=0)] = 10_000
    """How many responses are kept at most; 0 = none is stored."""
    bytes: Bytes = 256_000_000
    """How many bytes they may have together; 0 = none is stored."""


class Chaos(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Breaking things on purpose."""

    enabled: bool = False
    """`true` = whoever reaches the port may break parts of lmx (`lmx chaos`); for tests only."""


class Logs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    format: Literal["auto", "console", "json"] = "auto"
    """`console` for people, `json` for programs; `auto` = console on a terminal."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings."""

    server: Server = Server()
    keys: Keys = Keys()
    admission: Admission = Admission()
    memory: Memory = Memory()
    liveness: Liveness = Liveness()
    watchdog: Watchdog = Watchdog()
    journal: Journal = Journal()
    responses: Responses = Responses()
    logs: Logs = Logs()
    chaos: Chaos = Chaos()
    defaults: Defaults = Defaults()
    models: dict[str, ModelConfig] = field(default_factory=dict)
    aliases: dict[str, Names] = field(default_factory=dict)
    """Other names of models, `alias = "model"`; `lmx swap` moves one to another model while lmx runs.

    A request for a list of models, `alias = ["model", "other"]`, is served by the first of them that can.
    """
    presets: dict[str, PresetConfig] = field(default_factory=dict)
    default_model: str = ""
    """Model of requests that name none; empty = they are refused."""
    guide: bool = True
    """Offer the embedded model `lmx-guide` beside the others."""
    state_dir: str = "~/.lmx"
    """Folder of what lmx remembers between starts."""
    strict_state: bool = False
    """End with exit code 71 when all of that is damaged; `false` = move it aside and start without it."""


VARIABLES: Mapping[str, Key] = {
    **{PREFIX + "_".join(setting.key).upper(): setting.key for setting in settings(Config)},
    **{PREFIX + name.upper(): key for name, key in SHORT.items()},
}
FLAGS: Mapping[str, Key] = {
    **{"--" + "-".join(setting.key).replace("_", "-"): setting.key for setting in settings(Config)},
    **{"--" + name.replace("_", "-"): key for name, key in SHORT.items()},
}


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """Read the TOML file, then `LMX_*` variables, then flags (`{"--port": 8000}`, None = not given).

    `file`, or else the one that LMX_CONFIG names, must exist; `~/.lmx/config.toml` may. Raises ConfigError.
    """
    named = file or (Path(environ[FILE_VARIABLE]) if FILE_VARIABLE in environ else None)
    path = Path(os.path.abspath(os.path.expanduser(named or DEFAULT_FILE)))
    text = _read(path, needed=named is not None)
    layers = [from_toml(text, str(path), Config)] if text is not None else []
    variables = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    layers.append(from_names(variables, VARIABLES, aside=frozenset({FILE_VARIABLE, KEY_VARIABLE})))
    layers.append(from_names({name: value for name, value in flags.items() if value is not None}, FLAGS))
    config = merge(Config, layers)
    _check(config, layers)
    return _absolute(config, path.parent)


def _read(path: Path, *, needed: bool) -> str | None:
    """None: it is not there, and not `needed`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if not needed and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        raise ConfigError(f"{path}: the config file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the config file is not UTF-8 text.") from None


def _check(config: Config, layers: list[Layer]) -> None:
    """What no single value shows. Raises ConfigError that names the last place that set one of the two."""

    def where(*keys: Key) -> str:
        return next(layer.where(key) for layer in reversed(layers) for key in keys if key in layer.values)

    limits = config.admission
    if limits.queue > limits.max_in_flight:
        place = where(("admission", "queue"), ("admission", "max_in_flight"))
        expected = f"expected at most max_in_flight ({limits.max_in_flight})"
        raise ConfigError(f"{place}: admission.queue is {limits.queue}, {expected}.")
    if config.keys.admin in config.keys.inference:
        place = where(("keys", "admin"), ("keys", "inference"))
        raise ConfigError(f"{place}: keys.admin is one of keys.inference, expected a key of its own.")
    for name, model in config.models.items():
        if not model.path and model.backend != "fake":
            place = layers[0].where(("models", name))
            raise ConfigError(f"{place}: models.{name} has no path, expected a .gguf file or an mlx-lm folder.")
    for name, preset in config.presets.items():
        if not preset.model:
            place = layers[0].where(("presets", name))
            raise ConfigError(f"{place}: presets.{name} has no model, expected the name of one or of an alias.")


def _absolute(config: Config, folder: Path) -> Config:
    """Paths without `~`; those of models are relative to the config file's folder."""

    def whole(path: str) -> str:
        return str(folder / os.path.expanduser(path)) if path else ""

    models = {name: located(model, whole) for name, model in config.models.items()}
    presets = {name: located(preset, whole) for name, preset in config.presets.items()}
    return replace(config, models=models, presets=presets, state_dir=os.path.expanduser(config.state_dir))
