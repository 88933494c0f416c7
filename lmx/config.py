"""What a user may set, as frozen values. `lmx.settings` reads them; docs/config.md is generated from the docstrings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from lmx.access import Keys, Server
from lmx.machines.types import Adapter, KvLayout, KvType, Speculation, Switch
from lmx.settings import ConfigError, Key, Layer, from_names, from_toml, merge, settings

__all__ = ["Config", "ConfigError", "ModelConfig", "load"]

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

Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Bytes = Annotated[int, Meta(ge=0)]
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


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For every model that does not set its own value."""

    context: Count = 4096
    """Tokens of one sequence, prompt and completion; the model's own limit is the upper bound."""
    slots: Count = 8
    """Sequences that one model decodes at the same time."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """CPU threads of a step of GGUF models (MLX has no such setting); 0 = the number of physical cores."""
    prefill_chunk: Annotated[int, Meta(ge=32, le=4096)] = 512
    """Prompt tokens that one step may read at most."""
    target_itl_ms: Milliseconds = 0
    """The longest pause between two tokens that another one's prompt may cause; 0 = 100 on a GPU, 250 on a CPU."""
    batch_itl_ms: Milliseconds = 1000
    """The same while only requests of the class `batch` are answered."""
    kv_type: KvType = "f16"
    """What the KV cache holds; q8_0 and q4_0 need less memory, and flash attention on GGUF models."""
    kv_layout: KvLayout = "auto"
    """GGUF models: a KV stream `per_sequence`, or a `unified` one; `auto` = per_sequence, which was faster."""
    flash_attention: Switch = "auto"
    """GGUF models; `auto` = what was faster on this kind of device, and on where `kv_type` needs it."""
    speculation: Speculation = "auto"
    """Guess tokens ahead: with a `draft` model, by prompt `lookup`, or not at all; `auto` = what the model can."""
    draft_tokens: Annotated[int, Meta(ge=1, le=64)] = 8
    """Tokens that are guessed at a time, at most."""
    cache_bytes: Bytes = 0
    """Memory of one model for prompts that may come again; 0 = a tenth of the machine's."""
    disk_cache_bytes: Bytes = 4_000_000_000
    """Disk space of all models for them, under `state_dir`; 0 = none."""
    mlx_memory_limit: Bytes = 0
    """Bytes that MLX may take before it waits for running work; 0 = the library's own limit."""
    mlx_cache_limit: Bytes = 50_000_000_000
    """Bytes of freed buffers that MLX keeps, at most, and never more than its own limit; 0 = that limit."""
    mlx_wired_limit: Bytes = 0
    """Bytes that MLX keeps from being paged out (macOS 15 and later); 0 = as mlx-lm sets it."""
    keep_alive_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """How long a model stays loaded while nobody asks for it; 0 = for ever. A request's `keep_alive` goes before it."""


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, `[models.NAME]`; what is not set comes from `[defaults]`."""

    path: str = ""
    """A `.gguf` file or an mlx-lm folder, relative to the config file; only `fake` needs none."""
    backend: Literal["auto", "mlx", "llama_cpp", "fake"] = "auto"
    """What runs it; `auto` = by the kind of file."""
    context: Count | None = None
    """As in `[defaults]`."""
    slots: Count | None = None
    """As in `[defaults]`."""
    threads: Annotated[int, Meta(ge=0)] | None = None
    """As in `[defaults]`."""
    prefill_chunk: Annotated[int, Meta(ge=32, le=4096)] | None = None
    """As in `[defaults]`."""
    target_itl_ms: Milliseconds | None = None
    """As in `[defaults]`."""
    batch_itl_ms: Milliseconds | None = None
    """As in `[defaults]`."""
    kv_type: KvType | None = None
    """As in `[defaults]`."""
    kv_layout: KvLayout | None = None
    """As in `[defaults]`."""
    flash_attention: Switch | None = None
    """As in `[defaults]`."""
    speculation: Speculation | None = None
    """As in `[defaults]`."""
    draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    """As in `[defaults]`."""
    cache_bytes: Bytes | None = None
    """As in `[defaults]`."""
    disk_cache_bytes: Bytes | None = None
    """As in `[defaults]`; 0 = nothing of this model is kept on disk."""
    mlx_memory_limit: Bytes | None = None
    """As in `[defaults]`."""
    mlx_cache_limit: Bytes | None = None
    """As in `[defaults]`."""
    mlx_wired_limit: Bytes | None = None
    """As in `[defaults]`."""
    keep_alive_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    """As in `[defaults]`."""
    pinned: bool = False
    """Never unload it for others, nor for being idle."""
    draft: str = ""
    """Path of a smaller model with the same vocabulary that guesses tokens."""
    adapters: list[Adapter] = field(default_factory=list)
    """LoRA adapters: a list of `{path = "…", scale = 1.0}`."""
    preload: bool = True
    """Load it when the server starts; `false` = with its first request."""
    script: str = ""
    """What the `fake` backend acts out."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings."""

    server: Server = Server()
    keys: Keys = Keys()
    admission: Admission = Admission()
    memory: Memory = Memory()
    liveness: Liveness = Liveness()
    watchdog: Watchdog = Watchdog()
    journal: Journal = Journal()
    logs: Logs = Logs()
    chaos: Chaos = Chaos()
    defaults: Defaults = Defaults()
    models: dict[str, ModelConfig] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    """Other names of models, `alias = "model"`; `lmx swap` moves one to another model while lmx runs."""
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
    layers = [from_toml(_read(path), str(path), Config)] if named or path.exists() else []
    variables = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    layers.append(from_names(variables, VARIABLES, aside=frozenset({FILE_VARIABLE, KEY_VARIABLE})))
    layers.append(from_names({name: value for name, value in flags.items() if value is not None}, FLAGS))
    config = merge(Config, layers)
    _check(config, layers)
    return _absolute(config, path.parent)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
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


def _absolute(config: Config, folder: Path) -> Config:
    """Paths without `~`; those of models are relative to the config file's folder."""

    def whole(path: str) -> str:
        return str(folder / os.path.expanduser(path)) if path else ""

    models = {
        name: replace(
            model,
            path=whole(model.path),
            draft=whole(model.draft),
            adapters=[replace(adapter, path=whole(adapter.path)) for adapter in model.adapters],
        )
        for name, model in config.models.items()
    }
    return replace(config, models=models, state_dir=os.path.expanduser(config.state_dir))
