"""What a user sets, and what he is told when it is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from lmx.config import Config, ConfigError, load

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the settings of whoever runs it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lmx.toml"


def test_without_any_setting_everything_has_its_default(home: Path) -> None:
    """No file, variable or flag is needed; only the `~` of the state folder is resolved."""
    config = load(None, {}, {})
    assert config == Config(state_dir=str(home / ".lmx"))


def test_flags_win_over_variables_and_variables_over_the_file(file: Path) -> None:
    """TOML file, then LMX_* environment, then flags; a flag of None was not given."""
    file.write_text("[server]\nhost = '0.0.0.0'\nport = 1\n[defaults]\ncontext = 10\n")
    config = load(file, {"LMX_PORT": "2", "LMX_DEFAULTS_CONTEXT": "20"}, {"--context": 30, "--slots": None})
    assert (config.server.host, config.server.port, config.defaults.context, config.defaults.slots) == (
        "0.0.0.0",
        2,
        30,
        8,
    )


def test_every_setting_has_a_variable() -> None:
    """Numbers, truth values and text are all read from LMX_* variables."""
    environ = {
        "LMX_ADMISSION_MAX_IN_FLIGHT": "500",
        "LMX_GUIDE": "false",
        "LMX_MEMORY_SHARE": "0.5",
        "LMX_LOG_LEVEL": "debug",
    }
    config = load(None, environ, {})
    assert config.admission.max_in_flight == 500
    assert config.guide is False
    assert config.memory.share == 0.5
    assert config.logs.level == "debug"


def test_the_file_in_the_home_folder_is_read_if_there_is_one(home: Path) -> None:
    """~/.lmx/config.toml needs no flag."""
    (home / ".lmx").mkdir()
    (home / ".lmx" / "config.toml").write_text("server.port = 7\n")
    assert load(None, {}, {}).server.port == 7


def test_lmx_config_names_the_file(file: Path) -> None:
    """LMX_CONFIG stands for --config."""
    file.write_text("server.port = 8\n")
    assert load(None, {"LMX_CONFIG": str(file)}, {}).server.port == 8


def test_paths_of_models_are_relative_to_the_config_file(file: Path, home: Path) -> None:
    """A config can be moved with its models, whatever folder lmx is started in; `~` is the home folder."""
    file.write_text("[models.a]\npath = 'models/a.gguf'\n[models.b]\npath = '~/b'\n[models.c]\npath = '/c'\n")
    paths = [model.path for model in load(file, {}, {}).models.values()]
    assert paths == [str(file.parent / "models" / "a.gguf"), str(home / "b"), "/c"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[server]\n\nprot = 1", "line 3: there is no setting server.prot (did you mean port?)."),
        ("# x\nport = 3", "line 2: there is no setting port (did you mean server.port?)."),
        ("[sever]\nport = 3", "line 1: there is no setting sever (did you mean server?)."),
        ("zzz = 1", "line 1: there is no setting zzz."),
        ("[server]\nport = 99999", "line 2: server.port is 99999, expected a whole number from 0 to 65535."),
        ("[server]\nport = '80'", 'line 2: server.port is "80", expected a whole number from 0 to 65535.'),
        ("server = 3", "line 1: server is 3, expected a table."),
        ("[server.port]\nx = 1", "line 1: server.port is a table, expected a whole number from 0 to 65535."),
        ("server = { port = [1] }", "line 1: server.port is a list, expected a whole number from 0 to 65535."),
        ("[memory]\nshare = nan", "line 2: memory.share is nan, expected a number above 0 and at most 1."),
        (
            "[server]\nhost = '''a\n[b]'''\ndrain_seconds = 0",
            "line 4: server.drain_seconds is 0, expected a number above",
        ),
        ("guide = 1979-05-27", "line 1: guide is 1979-05-27, expected true or false."),
        ("[server]\nhost = ''", 'line 2: server.host is "", expected text that is not empty.'),
        (
            "[models.x]\npath = 'x'\nbackend = 'llama'",
            'line 3: models.x.backend is "llama", expected one of auto, fake,',
        ),
        ("guide = true\n[models.x]\n", "line 2: models.x has no path, expected a .gguf file or an mlx-lm folder."),
        ("[models.x]\nslots = 2", "line 1: models.x has no path, expected a .gguf file or an mlx-lm folder."),
        ("[admission]\nmax_in_flight = 5", "line 2: admission.queue is 256, expected at most max_in_flight (5)."),
        ("a = 1\n[server\n", "line 2: not valid TOML: expected ']' at the end of a table declaration."),
        ("[server]\nport = 1\nport = 2", "line 3: not valid TOML: cannot overwrite a value."),
        ("", ""),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(file: Path, text: str, complaint: str) -> None:
    """One sentence: file and line, what was found, what was expected, and the name that was probably meant."""
    file.write_text(text)
    if not complaint:
        load(file, {}, {})
        return
    with pytest.raises(ConfigError) as raised:
        load(file, {}, {})
    assert str(raised.value).startswith(f"{file}, {complaint}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"LMX_PROT": "1"}, "LMX_PROT: there is no such setting (did you mean LMX_PORT?)."),
        ({"LMX_PORT": "http"}, 'LMX_PORT: server.port is "http", expected a whole number from 0 to 65535.'),
        ({"LMX_GUIDE": "maybe"}, 'LMX_GUIDE: guide is "maybe", expected true or false.'),
        ({"LMX_PORT": "1", "LMX_SERVER_PORT": "2"}, "LMX_PORT and LMX_SERVER_PORT are one setting under two names"),
        ({"LMX_CONFIG": "/does/not/exist.toml"}, "/does/not/exist.toml: the config file cannot be read: No such file"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_its_variable(environ: dict[str, str], complaint: str) -> None:
    """Also a variable that stands for nothing: a typing error must not silently change nothing."""
    with pytest.raises(ConfigError) as raised:
        load(None, environ, {})
    assert str(raised.value).startswith(complaint)


def test_a_wrong_flag_is_told_by_its_name() -> None:
    """A flag is checked like a line of the file."""
    with pytest.raises(ConfigError, match=r"^--slots: defaults.slots is 0, expected a whole number of at least 1\.$"):
        load(None, {}, {"--slots": 0})


def test_a_file_that_is_asked_for_must_be_readable_text(file: Path) -> None:
    """--config names a file that exists and is UTF-8."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(file, {}, {})
    file.write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(file, {}, {})


def test_variables_of_others_are_left_alone() -> None:
    """Only LMX_* is ours."""
    assert load(None, {"PORT": "x", "LM_X": "y"}, {}).server.port == 1234


def test_the_generated_pages_are_fresh() -> None:
    """docs/config.md and its like say what the code says."""
    check = subprocess.run(
        [sys.executable, "scripts/docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.stdout + check.stderr == ""
    assert check.returncode == 0
