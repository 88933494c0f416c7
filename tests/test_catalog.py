"""Which models there are, and what is said about those that cannot be."""

from pathlib import Path

import pytest

from lmx.catalog import GUIDE, CatalogError, catalog, preloaded
from lmx.config import Config, Defaults, ModelConfig

ALONE = Config(guide=False)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """Enough of a GGUF file to be told from others; nothing here loads it."""
    path = tmp_path / "small.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


def names(config: Config, *flags: str) -> list[str]:
    return [spec.name for spec in catalog(config, flags)]


def test_a_file_or_folder_given_by_flag_is_a_model(gguf: Path, folder: Path) -> None:
    """A .gguf file is for llama_cpp, a folder with config.json for mlx; the name is the file's."""
    specs = catalog(ALONE, (str(gguf), str(folder)))
    assert [(spec.name, spec.backend, spec.path) for spec in specs] == [
        ("small", "llama_cpp", str(gguf)),
        ("tiny", "mlx", str(folder)),
    ]


def test_a_relative_path_is_made_absolute(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may run in another folder."""
    monkeypatch.chdir(gguf.parent)
    assert catalog(ALONE, ("small.gguf",))[0].path == str(gguf)


def test_names_are_unique(gguf: Path) -> None:
    """Two models of one name would hide each other; NAME=PATH chooses another one."""
    assert names(ALONE, str(gguf), str(gguf), f"mine={gguf}") == ["small", "small-2", "mine"]
    config = Config(guide=False, models={"small": ModelConfig(backend="fake")})
    assert names(config, str(gguf)) == ["small-2", "small"]


def test_a_name_that_was_chosen_is_never_changed(gguf: Path) -> None:
    """Clients rely on it, so a clash is an error."""
    with pytest.raises(CatalogError, match="already a model named mine"):
        catalog(ALONE, (f"mine={gguf}", f"mine={gguf}"))


def test_a_path_may_hold_an_equals_sign(gguf: Path) -> None:
    """What exists is a path."""
    path = gguf.rename(gguf.with_name("a=b.gguf"))
    assert names(ALONE, str(path)) == ["a=b"]


def test_a_model_takes_what_it_does_not_set_from_the_defaults() -> None:
    """[defaults], and so --context and --slots, hold for every model without a value of its own."""
    own = {"a": ModelConfig(backend="fake", context=7, script="x"), "b": ModelConfig(backend="fake", threads=3)}
    a, b = catalog(Config(guide=False, models=own, defaults=Defaults(context=99, slots=2)))
    assert (a.context, a.slots, a.script, a.backend) == (7, 2, "x", "fake")
    assert (b.context, b.slots, b.threads) == (99, 2, 3)


def test_the_guide_is_served_when_there_is_nothing_else() -> None:
    """`lmx serve` works without any argument, even with `guide = false`."""
    assert names(Config()) == [GUIDE]
    assert names(ALONE) == [GUIDE]
    assert preloaded(Config(), catalog(Config())) == catalog(Config())


def test_the_guide_stays_beside_other_models_but_is_not_loaded_at_once(gguf: Path) -> None:
    """It can always be asked, and costs nothing until then."""
    specs = catalog(Config(), (str(gguf),))
    assert [spec.name for spec in specs] == ["small", GUIDE]
    assert [spec.name for spec in preloaded(Config(), specs)] == ["small"]


def test_the_default_model_comes_first(gguf: Path) -> None:
    """It answers requests that name none, and is loaded at the start."""
    config = Config(default_model=GUIDE)
    specs = catalog(config, (str(gguf),))
    assert [spec.name for spec in specs] == [GUIDE, "small"]
    assert preloaded(config, specs) == specs
    with pytest.raises(CatalogError, match="default_model is nope, but the models are: small, lmx-guide"):
        catalog(Config(default_model="nope"), (str(gguf),))


def test_a_model_may_wait_for_its_first_request() -> None:
    """preload = false."""
    models = {"now": ModelConfig(backend="fake"), "later": ModelConfig(backend="fake", preload=False)}
    config = Config(guide=False, models=models)
    assert [spec.name for spec in preloaded(config, catalog(config))] == ["now"]


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("missing.gguf", "missing.gguf does not exist: give the path"),
        ("notes.txt", "notes.txt is no model: give a .gguf file"),
        ("pointer.gguf", "pointer.gguf is no GGUF file although it is called so"),
        ("empty", "empty has no config.json: give an mlx-lm folder"),
        ("broken", "broken/config.json is not JSON: download the model again"),
        ("=x.gguf", "--model =x.gguf: expected PATH or NAME=PATH"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, complaint: str
) -> None:
    """The sentence names the path and says what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(CatalogError) as raised:
        catalog(ALONE, (flag,))
    assert complaint in str(raised.value)
    assert str(raised.value).endswith(".")


def test_a_backend_that_does_not_fit_the_file_is_refused(gguf: Path) -> None:
    """Better at the start than as a failed load."""
    config = Config(models={"x": ModelConfig(path=str(gguf), backend="mlx")})
    with pytest.raises(CatalogError, match=r"is a model for llama_cpp, but models.x.backend is mlx"):
        catalog(config)
