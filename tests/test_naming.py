"""Aliases with several models, presets and chat templates, from the config file to what is offered."""

from pathlib import Path

import pytest

from lmx.catalog import CatalogError, catalog, preloaded
from lmx.config import Config, ConfigError, load
from lmx.guide_record import of as record_of
from lmx.http.presets import Preset
from lmx.identity import quarantine_key
from lmx.machines.speech import Thinking
from lmx.machines.types import ModelSpec
from lmx.naming import names_of

TWO = """
guide = false
[models.big]
backend = "fake"
context = 8192
[models.small]
backend = "fake"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lmx.toml"


def read(file: Path, text: str) -> Config:
    file.write_text(TWO + text)
    return load(file, {}, {})


def offered(config: Config) -> dict[str, ModelSpec]:
    return {spec.name: spec for spec in catalog(config)}


def test_an_alias_is_a_name_or_a_list_of_names(file: Path) -> None:
    """Both forms are read; the first of a list is what the alias means."""
    config = read(file, '[aliases]\nbest = ["big", "small"]\none = "small"\n')
    catalog(config)
    assert names_of(config).aliases == {"best": ("big", "small"), "one": ("small",)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('best = ["big", "nobody"]', "aliases.best is nobody, but the models are: big, small"),
        ('best = ["big", "big"]', "aliases.best names a model twice"),
        ('big = ["small"]', "aliases.big is also the name of a model"),
    ],
)
def test_a_list_names_models_that_there_are(file: Path, text: str, complaint: str) -> None:
    """The start stops with a sentence that names the alias."""
    with pytest.raises(CatalogError, match=complaint):
        catalog(read(file, f"[aliases]\n{text}\n"))


@pytest.mark.parametrize("text", ["best = []", "best = 3", 'best = [""]'])
def test_a_list_of_something_else_is_no_alias(file: Path, text: str) -> None:
    """Said with line and expectation, as of every setting."""
    with pytest.raises(ConfigError, match=r"line \d+: aliases.best is .*, expected a model's name or a list of names"):
        read(file, f"[aliases]\n{text}\n")


def test_a_preset_without_settings_of_its_own_shares_the_worker(file: Path) -> None:
    """It is no model: requests go to its model, or to its alias."""
    config = read(
        file,
        '[aliases]\nbest = ["big", "small"]\n[presets.coder]\nmodel = "best"\nsystem = "You write code."\n'
        'temperature = 0.2\nstop = "END"\nmax_tokens = 100\nthinking = true\nthinking_budget = 64\n',
    )
    assert list(offered(config)) == ["big", "small"]
    assert names_of(config).presets == {
        "preset:coder": Preset(
            model="best",
            base="best",
            defaults={"temperature": 0.2, "max_tokens": 100, "stop": "END"},
            system="You write code.",
            thinking=Thinking(enabled=True, budget=64),
        )
    }


def test_a_preset_with_settings_of_its_own_is_a_model(file: Path) -> None:
    """Named as clients name it, with those fields replaced; it is loaded when it is first asked for."""
    config = read(file, '[presets.long]\nmodel = "big"\nslots = 1\nkv_type = "q8_0"\ntop_k = 0\n')
    specs = offered(config)
    long, big = specs["preset:long"], specs["big"]
    assert (long.context, long.slots, long.kv_type, long.backend) == (8192, 1, "q8_0", "fake")
    assert (big.slots, big.kv_type) == (8, "f16")
    assert names_of(config).presets["preset:long"] == Preset(model="preset:long", base="big", defaults={"top_k": 0})
    assert [spec.name for spec in preloaded(config, catalog(config))] == ["big", "small"]
    early = read(file, '[presets.long]\nmodel = "big"\nslots = 1\npreload = true\n')
    assert "preset:long" in [spec.name for spec in preloaded(early, catalog(early))]


def test_a_preset_of_an_alias_is_made_of_its_first_model(file: Path) -> None:
    """With a worker of its own it is that model's, as the alias stands in the config."""
    config = read(file, '[aliases]\nbest = ["big", "small"]\n[presets.long]\nmodel = "best"\ncontext = 100\n')
    assert offered(config)["preset:long"].context == 100
    assert names_of(config).presets["preset:long"].base == "best"


def test_an_alias_may_mean_a_preset_that_is_a_model(file: Path) -> None:
    """It is loaded, refused and swapped as every other one."""
    config = read(file, '[aliases]\nbest = ["preset:long", "small"]\n[presets.long]\nmodel = "big"\ncontext = 100\n')
    catalog(config)
    assert names_of(config).aliases["best"] == ("preset:long", "small")


def test_requests_that_name_no_model_may_get_an_alias_or_a_preset(file: Path) -> None:
    """The model behind it comes first, as every default does."""
    for default in ("best", "preset:coder"):
        read(file, '[aliases]\nbest = "small"\n[presets.coder]\nmodel = "best"\n')
        config = load(file, {"LMX_DEFAULT_MODEL": default}, {})
        assert catalog(config)[0].name == "small"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('model = "nobody"', "presets.x.model is nobody, but the models are: big, small"),
        ('model = "big"\npreload = true', "presets.x.preload means nothing: big runs it"),
        ('model = "big"\npinned = true', "presets.x.pinned means nothing: big runs it"),
    ],
)
def test_a_preset_that_cannot_be_stops_the_start(file: Path, text: str, complaint: str) -> None:
    """Also one that says what would have no effect."""
    with pytest.raises(CatalogError, match=complaint):
        catalog(read(file, f"[presets.x]\n{text}\n"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("temperature = 1", "presets.x has no model, expected the name of one or of an alias"),
        ('model = "big"\ntemperature = 3', "presets.x.temperature is 3, expected a number from 0 to 2"),
        ('model = "big"\ntop_p = 0', "presets.x.top_p is 0, expected a number above 0"),
        ('model = "big"\nstop = []', "presets.x.stop is a list, expected a text or a list of up to four"),
        ('model = "big"\ntemprature = 1', "there is no setting presets.x.temprature"),
    ],
)
def test_what_a_request_could_not_say_a_preset_cannot(file: Path, text: str, complaint: str) -> None:
    """Its fields have the ranges of a request's."""
    with pytest.raises(ConfigError, match=complaint):
        read(file, f"[presets.x]\n{text}\n")


def test_names_stay_unique(file: Path) -> None:
    """A model that is called like a preset would hide it."""
    with pytest.raises(CatalogError, match="preset:x is also the name of a model"):
        catalog(read(file, '[models."preset:x"]\nbackend = "fake"\n[presets.x]\nmodel = "big"\n'))


def test_a_template_is_found_beside_the_config(file: Path) -> None:
    """Its path is relative to the file, and a preset may have another one."""
    (file.parent / "own.jinja").write_text("{{ messages }}")
    (file.parent / "other.jinja").write_text("{{ messages[0] }}")
    config = read(
        file,
        '[models.own]\nbackend = "fake"\nchat_template = "own.jinja"\n'
        '[presets.other]\nmodel = "own"\nchat_template = "other.jinja"\n',
    )
    specs = offered(config)
    assert specs["own"].chat_template == str(file.parent / "own.jinja")
    assert specs["preset:other"].chat_template == str(file.parent / "other.jinja")
    assert specs["big"].chat_template == ""


def test_a_template_that_cannot_be_read_stops_the_start(file: Path) -> None:
    """As a model's file that is missing does."""
    config = read(file, '[models.own]\nbackend = "fake"\nchat_template = "own.jinja"\n')
    with pytest.raises(CatalogError, match=r"own\.jinja, the chat template of own, does not exist"):
        catalog(config)
    (file.parent / "own.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match="cannot be read: it is not UTF-8 text"):
        catalog(config)


def test_another_template_ends_a_quarantine(tmp_path: Path) -> None:
    """It may have been the reason."""
    template = tmp_path / "own.jinja"
    template.write_text("one")
    spec = ModelSpec(name="m", path="", backend="fake", chat_template=str(template))
    before = quarantine_key(spec)
    template.write_text("another one")
    assert quarantine_key(spec) != before
    assert record_of(spec) is None
