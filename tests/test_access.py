"""Who may connect: what is refused at the start, what is never shown, and which key a command sends."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from lmx.access import Keys, authority, is_loopback, unguarded
from lmx.cli import run
from lmx.config import ConfigError, load

SECRET = "sk-0123456789"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the settings of whoever runs it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("LMX_API_KEY", "LMX_KEYS_INFERENCE", "LMX_KEYS_ADMIN"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lmx.toml"


def test_an_address_is_told_as_urls_have_it() -> None:
    """What lmx says that it listens on can be copied into a client, also when it is IPv6."""
    assert authority("127.0.0.1", 1234) == "127.0.0.1:1234"
    assert authority("::1", 1234) == "[::1]:1234"


def test_keys_come_from_the_file_or_from_variables(file: Path) -> None:
    """A list in TOML; in a variable there are commas. LMX_API_KEY is for commands, and no setting."""
    file.write_text(f"[keys]\ninference = ['{SECRET}', 'another-one']\nadmin = 'of-the-admin'\n")
    assert load(file, {}, {}).keys == Keys(inference=(SECRET, "another-one"), admin="of-the-admin")
    environ = {"LMX_KEYS_INFERENCE": "first-key, second-key,", "LMX_KEYS_ADMIN": "third-key", "LMX_API_KEY": "x"}
    assert load(file, environ, {}).keys == Keys(inference=("first-key", "second-key"), admin="third-key")
    assert load(file, {"LMX_KEYS_INFERENCE": ""}, {}).keys.inference == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("inference = ['sh0rt-1']", "line 2: keys.inference is not shown, expected a list of keys of at least 8 "),
        (f"\ninference = ['{SECRET}', '']", "line 3: keys.inference is not shown, expected a list of keys"),
        (f"inference = '{SECRET}'", "line 2: keys.inference is not shown, expected a list of keys"),
        ("inference = ['with a space 1']", "line 2: keys.inference is not shown, expected a list of keys"),
        ("inference = ['0123456789,1']", "line 2: keys.inference is not shown, expected a list of keys"),
        ('inference = ["0123456789\\n"]', "line 2: keys.inference is not shown, expected a list of keys"),
        ("admin = 'sh0rt-1'", "line 2: keys.admin is not shown, expected a key of at least 8 "),
        ("admin = 12345678", "line 2: keys.admin is not shown, expected a key of at least 8 "),
        (f"admin = '{SECRET}'\ninference = ['{SECRET}']", "line 2: keys.admin is one of keys.inference, expected "),
    ],
)
def test_a_bad_key_is_told_with_its_line_and_not_shown(file: Path, text: str, complaint: str) -> None:
    """At least 8 printable ASCII characters; what was found may be a real secret."""
    file.write_text(f"[keys]\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, {}, {})
    assert str(raised.value).startswith(f"{file}, {complaint}")
    for secret in (SECRET, "sh0rt-1", "12345678", "with a space"):
        assert secret not in str(raised.value)


def test_keys_do_not_show_themselves() -> None:
    """Not even to who prints the whole config."""
    assert SECRET not in repr(load(None, {"LMX_KEYS_ADMIN": SECRET, "LMX_KEYS_INFERENCE": "x" * 9}, {}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hosts = ['lmx.lan:1234']", "server.hosts is a list, expected a list of names."),
        ("hosts = ['*']", "server.hosts is a list, expected a list of names."),
        ("cors_origins = ['chat.example']", "server.cors_origins is a list, expected a list of origins ("),
        ("cors_origins = ['https://chat.example/']", "server.cors_origins is a list, expected a list of origins ("),
        ("cors_origins = ['*']", "server.cors_origins is a list, expected a list of origins ("),
    ],
)
def test_what_could_never_match_is_refused(file: Path, text: str, complaint: str) -> None:
    """A name has no port, an origin has no path, and there is no way to let everybody in."""
    file.write_text(f"[server]\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, {}, {})
    assert complaint in str(raised.value)


LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"]
OTHERS = ["0.0.0.0", "::", "192.168.1.5", "my-machine", "::ffff:8.8.8.8", "localhost.example"]


@pytest.mark.parametrize("host", [*LOOPBACK, *OTHERS])
def test_who_is_let_in_needs_a_key(host: str) -> None:
    """Anything but loopback needs inference keys; an admin key alone would leave /v1 open to all."""
    assert is_loopback(host) == (host in LOOPBACK)
    assert (unguarded(host, Keys()) is None) == (host in LOOPBACK)
    assert (unguarded(host, Keys(admin=SECRET)) is None) == (host in LOOPBACK)
    assert unguarded(host, Keys(inference=(SECRET,))) is None


def test_an_open_server_is_not_started(tmp_path: Path) -> None:
    """Exit code 64 and one sentence that says what to do, before anything is written or loaded."""
    (tmp_path / "lmx.toml").write_text(f"state_dir = '{tmp_path}/state'\n[models.echo]\nbackend = 'fake'\n")
    command = [sys.executable, "-m", "lmx", "serve", "--config", "lmx.toml", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 64
    assert done.stderr.startswith("lmx: 0.0.0.0 lets other machines in, and no API key is set: set keys.inference")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


class Keyed(BaseHTTPRequestHandler):
    """Answers with no machines or models, and keeps what it was shown; without a key it says 401."""

    shown: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        key = self.headers["Authorization"]
        self.shown.append((self.path, key))
        body: dict[str, object] = {"machines": []} if key else {"error": {"message": "You didn't provide an API key."}}
        self.send_response(200 if key else 401)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def keyed() -> Iterator[str]:
    Keyed.shown.clear()
    with HTTPServer(("127.0.0.1", 0), Keyed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"LMX_KEYS_ADMIN": "of-the-admin", "LMX_KEYS_INFERENCE": "of-a-client"}, "Bearer of-the-admin"),
        ({"LMX_API_KEY": "given", "LMX_KEYS_ADMIN": "of-the-admin"}, "Bearer given"),
        ({"LMX_KEYS_INFERENCE": "of-a-client"}, None),
        ({}, None),
    ],
)
def test_commands_send_the_key_that_fits(
    keyed: str, environ: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The admin key to /admin; LMX_API_KEY goes before it; without one, it is said where one would come from."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert run(["ps", "--json", "--url", keyed]) == (0 if sent else 1)
    assert Keyed.shown == [("/admin/machines", sent)]
    assert sent or "LMX_API_KEY" in capsys.readouterr().err


def test_chat_sends_an_inference_key(keyed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMX_KEYS_INFERENCE", "of-a-client,of-another")
    monkeypatch.setenv("LMX_KEYS_ADMIN", "of-the-admin")
    run(["chat", "--url", keyed])
    assert Keyed.shown[0] == ("/v1/models", "Bearer of-a-client")


def test_our_keys_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's server gets LMX_API_KEY or nothing, never what our own config holds."""
    from lmx import usage

    monkeypatch.setenv("LMX_KEYS_ADMIN", "of-the-admin")
    assert usage.client("http://lmx.example:1234", None)._keys == ("", "")
    monkeypatch.setenv("LMX_API_KEY", "given")
    assert usage.client("http://lmx.example:1234", None)._keys == ("given", "given")


def test_an_open_server_is_not_installed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told now, and not by a service that does not start."""
    file.write_text("[server]\nhost = '0.0.0.0'\n")
    assert run(["daemon", "install", "--print", "--config", str(file)]) == 64
    assert "set keys.inference" in capsys.readouterr().err
