"""What clients may call a model besides its own name: aliases and presets, and who answers when none is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from lmx.config import Config
from lmx.http.presets import PREFIX, Preset
from lmx.machines.speech import Thinking
from lmx.machines.types import ModelSpec
from lmx.model_tables import PresetConfig, Running

RUN = tuple(Running.__struct_fields__)
OURS = frozenset({*RUN, "model", "system", "thinking", "effort", "thinking_budget", "pinned", "preload"})
"""Fields of a preset that are no fields of requests."""


class CatalogError(Exception):
    """A model cannot be offered. The message is one sentence that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """All that is no model's own name."""

    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Each with the models that may serve it, the first one first."""
    presets: Mapping[str, Preset] = field(default_factory=dict)


def aliases_of(config: Config) -> Mapping[str, tuple[str, ...]]:
    return {name: (means,) if isinstance(means, str) else means for name, means in config.aliases.items()}


def names_of(config: Config) -> Names:
    """Of a config that `catalog` took."""
    presets = {PREFIX + name: _preset(name, preset) for name, preset in config.presets.items()}
    return Names(aliases=aliases_of(config), presets=presets)


def own_models(config: Config, specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """The models that presets are which say how they are run. Raises CatalogError for a preset that cannot be."""
    known = {spec.name: spec for spec in specs}
    aliases = aliases_of(config)
    own: list[ModelSpec] = []
    for name, preset in config.presets.items():
        base = known.get(aliases.get(preset.model, (preset.model,))[0])
        if base is None:
            listed = ", ".join(sorted({*known, *aliases}))
            raise CatalogError(f"presets.{name}.model is {preset.model}, but the models are: {listed}.")
        if PREFIX + name in known or PREFIX + name in aliases:
            raise CatalogError(f"{PREFIX}{name} is also the name of a model or alias; give one of them another name.")
        if changes := _changes(preset):
            own.append(replace(base, name=PREFIX + name, pinned=preset.pinned, **changes))
        elif preset.pinned or preset.preload:
            which = "pinned" if preset.pinned else "preload"
            raise CatalogError(f"presets.{name}.{which} means nothing: {preset.model} runs it; set that there.")
    return own


def check_aliases(config: Config, specs: Sequence[ModelSpec]) -> None:
    names = {spec.name for spec in specs}
    for alias, models in aliases_of(config).items():
        if alias in names:
            raise CatalogError(f"aliases.{alias} is also the name of a model; give one of them another name.")
        if unknown := [model for model in models if model not in names]:
            raise CatalogError(f"aliases.{alias} is {unknown[0]}, but the models are: {', '.join(sorted(names))}.")
        if len(set(models)) < len(models):
            raise CatalogError(f"aliases.{alias} names a model twice; name each of them once.")


def default_first(config: Config, specs: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """Raises CatalogError for a default that is neither a model nor an alias nor a preset."""
    names, default = names_of(config), config.default_model
    preset = names.presets.get(default)
    model = preset.model if preset is not None else default
    model = names.aliases.get(model, (model,))[0]
    known = [spec.name for spec in specs]
    if default and model not in known:
        raise CatalogError(f"default_model is {default}, but the models are: {', '.join(known)}.")
    return tuple(sorted(specs, key=lambda spec: spec.name != model))


def _changes(preset: PresetConfig) -> dict[str, Any]:
    """What the preset says of how the model is run."""
    given = {name: getattr(preset, name) for name in RUN}
    given = {name: value for name, value in given.items() if value not in (None, "", [])}
    return given | ({"adapters": tuple(preset.adapters)} if preset.adapters else {})


def _preset(name: str, preset: PresetConfig) -> Preset:
    fields = {field: getattr(preset, field) for field in PresetConfig.__struct_fields__ if field not in OURS}
    defaults = {field: value for field, value in fields.items() if value is not None}
    return Preset(
        model=PREFIX + name if _changes(preset) else preset.model,
        base=preset.model,
        defaults={field: list(value) if isinstance(value, tuple) else value for field, value in defaults.items()},
        system=preset.system,
        thinking=Thinking(enabled=preset.thinking, effort=preset.effort, budget=preset.thinking_budget),
    )
