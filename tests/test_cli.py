"""The command line: starts from any folder, and tells mistakes in one sentence with the right exit code."""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from lmx import __version__
from lmx.cli import run

LMX = str(Path(sys.executable).with_name("lmx"))
UNSEEN = "/" + "x" * 300
"""A path of which nobody can even be told whether it is there, as of one in a folder that others may not look into."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the settings of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("command", [[LMX], [sys.executable, "-m", "lmx"]], ids=["lmx", "python -m lmx"])
def test_it_starts_from_any_folder(command: list[str], tmp_path: Path) -> None:
    """The installed command and the module both work far from the sources."""
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"lmx {__version__}\n", "", 0)


def test_it_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    """Start-up time counts: no command imports the server, a backend or the event loop before it needs them."""
    heavy = {"aiohttp", "asyncio", "pykka", "statemachine", "mlx", "llama_cpp", "numpy", "rich"}
    code = f"import sys, lmx.cli; print({heavy!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and what was said on stderr: one line, or nothing."""
    code = run(list(arguments))
    said = capsys.readouterr().err
    assert said.count("\n") <= 1
    return code, said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("serve", "--prot", "1"), "No such option: --prot"),
        (("serve", "--port", "x"), "Invalid value for '--port'"),
        (("serve", "--port", "99999"), "--port: server.port is 99999, expected a whole number from 0 to 65535."),
        (("serve", "--config", "nope.toml"), "nope.toml: the config file cannot be read: No such file or directory."),
        (("serve", "--model", "nope.gguf"), "nope.gguf does not exist"),
        (("nope",), "No such command 'nope'."),
        (("ps", "--url", "ftp://x"), "--url is ftp://x, expected something like http://127.0.0.1:1234."),
        (("adapt", "m", "a.gguf=much"), "a.gguf=much: expected PATH or PATH=SCALE."),
        (("adapt", "m", "a.gguf=nan"), "a.gguf=nan: expected PATH or PATH=SCALE."),
        (("diagram", "nope"), "There is no machine nope, expected one of model, loader,"),
        (("diagram", "model", "--state", "nope"), "nope"),
        (("serve", "--model", UNSEEN), f"{UNSEEN} cannot be read (File name too long): check its permissions."),
        (("journal", "--file", UNSEEN), f"{UNSEEN} cannot be read: File name too long."),
        (("replay", UNSEEN), f"{UNSEEN} cannot be read: File name too long."),
        (("bench", UNSEEN), f"{UNSEEN} cannot be read (File name too long): check its permissions."),
        (("adapt", "m", f"{UNSEEN}=much"), "expected PATH or PATH=SCALE."),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    """Exit code 64, no traceback."""
    code, said = told(capsys, *arguments)
    assert code == 64
    assert said.startswith("lmx: ")
    assert complaint in said


@pytest.mark.parametrize("command", ["serve", "ps"])
def test_a_usual_config_that_cannot_be_looked_at_is_not_passed_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The home folder may be somebody else's: what is set there is unknown, and not the defaults. No traceback."""
    monkeypatch.setenv("HOME", UNSEEN)
    complaint = f"lmx: {UNSEEN}/.lmx/config.toml: the config file cannot be read: File name too long.\n"
    assert told(capsys, command) == (64, complaint)


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage, as an error."""
    assert run([]) == 64
    assert "serve" in capsys.readouterr().out


def test_a_mistake_in_the_environment_stops_every_command_that_reads_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lmx ps` would otherwise ask the wrong server."""
    monkeypatch.setenv("LMX_PROT", "1")
    assert told(capsys, "ps") == (64, "lmx: LMX_PROT: there is no such setting (did you mean LMX_PORT?).\n")


@pytest.mark.parametrize(
    "arguments", [("ps",), ("chat",), ("load", "m"), ("unload", "m"), ("adapt", "m")], ids=lambda words: words[0]
)
def test_a_server_that_is_not_there_is_told_as_such(
    capsys: pytest.CaptureFixture[str], free_port: int, arguments: tuple[str, ...]
) -> None:
    """Exit code 69, and the sentence says how to start one."""
    code, said = told(capsys, *arguments, "--url", f"http://127.0.0.1:{free_port}")
    assert code == 69
    assert said.startswith(f"lmx: No server answers at http://127.0.0.1:{free_port}: start one with `lmx serve`")


def test_the_address_comes_from_the_settings(
    capsys: pytest.CaptureFixture[str], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `lmx serve` listens on is what the other commands ask; a server that listens everywhere is on loopback."""
    monkeypatch.setenv("LMX_PORT", str(free_port))
    monkeypatch.setenv("LMX_HOST", "0.0.0.0")
    assert f"http://127.0.0.1:{free_port}" in told(capsys, "ps")[1]


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 69, no traceback, and the sentence names the port and the flag."""
    (tmp_path / "lmx.toml").write_text("[models.echo]\nbackend = 'fake'\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [LMX, "serve", "--config", "lmx.toml", "--port", str(port), "--log-level", "error"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 69
    assert done.stderr.startswith(f"lmx: 127.0.0.1:{port} is taken")
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


MACHINES = {
    "machines": [
        {
            "actor": "model:guide", "state": "ready", "since": 1.0, "reason": "It sang.",
            "facts": {"backend": "mlx", "context": 1024, "in_flight": 2, "memory_bytes": 1_530_000_000,
                      "prefix": "trim", "cache_hit_share": 0.254, "speculation": "off: mlx-lm has none"},
        },
        {"actor": "model:cold", "state": "unloaded", "since": 1.0, "reason": "", "facts": {}},
        {"actor": "loader", "state": "idle", "since": 1.0, "reason": "", "facts": {}},
    ],
    "transitions": [],
}  # fmt: skip


class Machines(BaseHTTPRequestHandler):
    """Answers everything with MACHINES."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(MACHINES).encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def test_ps_shows_what_a_model_costs_and_saves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, reused share and speculation as people read them, empty for a model that is not loaded; JSON has all.

    A model is one line and no name is cut, however narrow the terminal: scripts look for them.
    """
    monkeypatch.setenv("COLUMNS", "40")
    with HTTPServer(("127.0.0.1", 0), Machines) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert run(["ps", "--url", url]) == 0
        head, guide, cold = capsys.readouterr().out.splitlines()
        assert run(["ps", "--json", "--url", url]) == 0
        server.shutdown()
    assert " ".join(head.split()) == "model state since backend context in flight memory prefix cached speculation why"
    for part in ("guide", "ready", "1.5 GB", "trim", "25%", " off ", "It sang."):
        assert part in guide
    assert cold.split()[:2] == ["cold", "unloaded"]
    first, second = json.loads(capsys.readouterr().out)
    assert (first["speculation"], first["memory"]) == ("off: mlx-lm has none", 1_530_000_000)
    assert second["memory"] is None


class Stranger(Machines):
    """Answers 200 to what it does not know, as another server that is often found on port 1234."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"error": "Unexpected endpoint or method.", "data": []}')

    def do_POST(self) -> None:
        self.do_GET()


@pytest.mark.parametrize(
    "arguments", [("ps",), ("chat",), ("load", "m"), ("swap", "a", "m")], ids=lambda words: words[0]
)
def test_another_server_is_told_as_such(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """One sentence and exit code 1, not a fault of lmx."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code, said = told(capsys, *arguments, "--url", url)
        server.shutdown()
    assert code == 1
    assert said.startswith(
        f"lmx: {url} offers no model." if arguments == ("chat",) else f"lmx: What answers at {url} is"
    )


class Adapted(BaseHTTPRequestHandler):
    """Answers every post with ready, and keeps its path and body."""

    asked: ClassVar[list[tuple[str, object]]] = []

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"model": "org/m", "state": "ready"}')

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def test_adapt_sends_whole_paths_and_scales(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Paths are of the folder that one stands in; a file whose name has a `=` is taken as it is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b=2").touch()
    with HTTPServer(("127.0.0.1", 0), Adapted) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert run(["adapt", "org/m", "a.gguf=0.5", "b=2", "/c.gguf", "--url", url]) == 0
        assert run(["adapt", "org/m", "--json", "--url", url]) == 0
        server.shutdown()
    wanted = [(str(tmp_path / "a.gguf"), 0.5), (str(tmp_path / "b=2"), 1.0), ("/c.gguf", 1.0)]
    path = "/admin/models/org%2Fm/adapters"
    assert Adapted.asked == [
        (path, {"adapters": [{"path": file, "scale": scale} for file, scale in wanted]}),
        (path, {"adapters": []}),
    ]
    assert capsys.readouterr().out.splitlines()[0] == "org/m is ready."


class Swapped(Adapted):
    """Keeps what it is asked apart from the others'."""

    asked: ClassVar[list[tuple[str, object]]] = []


def test_swap_says_what_the_alias_means_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the state of the alias: that no person asked for."""
    with HTTPServer(("127.0.0.1", 0), Swapped) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert run(["swap", "fast", "org/m", "--url", f"http://127.0.0.1:{server.server_port}"]) == 0
        server.shutdown()
    assert Swapped.asked == [("/admin/aliases/fast", {"model": "org/m"})]
    assert capsys.readouterr().out == "fast means org/m.\n"


@pytest.mark.parametrize(("form", "part"), [("mermaid", "stateDiagram"), ("dot", "digraph"), ("table", "| ")])
def test_a_machine_is_drawn_without_a_server(capsys: pytest.CaptureFixture[str], form: str, part: str) -> None:
    """In the three formats that python-statemachine knows."""
    assert run(["diagram", "model", "--format", form, "--state", "ready"]) == 0
    assert part in capsys.readouterr().out


def test_the_help_names_every_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """As the message for a wrong name does."""
    names = told(capsys, "diagram", "nope")[1].partition("one of ")[2].rstrip(".\n").split(", ")
    run(["diagram", "--help"])
    helped = capsys.readouterr().out
    assert len(names) > 5
    assert [name for name in names if name not in helped] == []


@pytest.mark.slow
def test_a_running_server_is_seen_and_used(tmp_path: Path) -> None:
    """ps, unload, load and chat against a real server: its own process, the fake backend, a port that is free."""
    (tmp_path / "lmx.toml").write_text("guide = false\nserver.port = 0\n[models.echo]\nbackend = 'fake'\n")
    command = [LMX, "serve", "--config", "lmx.toml", "--log-format", "json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            lines = (json.loads(line) for line in server.stdout)
            url = next(line["url"] for line in lines if line.get("event") == "listening")

            def lmx(*arguments: str, stdin: str = "") -> str:
                done = subprocess.run(
                    [LMX, *arguments, "--url", url],
                    input=stdin,
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=tmp_path,
                )
                return done.stdout

            assert json.loads(lmx("load", "echo", "--json")) == {"model": "echo", "state": "ready"}
            [row] = json.loads(lmx("ps", "--json"))
            assert (row["model"], row["state"], row["backend"], row["in_flight"]) == ("echo", "ready", "fake", 0)
            assert "echo" in lmx("ps")
            assert lmx("chat", stdin="hello").strip()
            assert lmx("unload", "echo") == "echo is unloaded.\n"
        finally:
            server.terminate()
            server.communicate()
    assert server.returncode == 0
