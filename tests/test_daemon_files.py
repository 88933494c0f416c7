"""`lmx daemon`: what is written for launchd and systemd, and what they are told; the two themselves are stand-ins here.

A stand-in is a program on PATH: it writes down its arguments and answers as the test says.
"""

import configparser
import os
import plistlib
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler
from typing import Any, cast

import pytest

from lmx import daemon
from lmx.cli import run
from lmx.daemon import DaemonError, Launchd, Systemd, readiness
from lmx.descriptors import WANTED

ROOT = Path(__file__).parents[1]
LMX = Path(sys.executable).with_name("lmx")


class StandIn:
    """A program that remembers how it was called, one line each."""

    def __init__(self, folder: Path, name: str, script: str) -> None:
        folder.mkdir(exist_ok=True)
        self._log = folder / f"{name}.calls"
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$*" >> {self._log}\n{script}\n')
        program.chmod(0o755)

    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


Make = Callable[[str, str], StandIn]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches whoever runs it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a stand-in, in front of the real one."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return lambda name, script: StandIn(tmp_path / "bin", name, script)


# --- launchd --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plist(home: Path) -> dict[str, Any]:
    """What launchd would be given."""
    config = home / "a & b.toml"
    loaded: dict[str, Any] = plistlib.loads(Launchd(home).text(LMX, config).encode())
    return loaded


KEYS: dict[str, Any] = {
    "Label": "com.lmx.server",
    "RunAtLoad": True,
    "KeepAlive": {"SuccessfulExit": False},
    "ThrottleInterval": 10,
    "ExitTimeOut": 60,
    "AbandonProcessGroup": False,
    "ProcessType": "Interactive",
    "SoftResourceLimits": {"NumberOfFiles": WANTED},
    "Umask": 0o077,
}


def test_every_key_of_the_job_is_meant(plist: dict[str, Any], home: Path) -> None:
    """These keys with these values, the paths, the arguments, and no other key."""
    assert {key: plist[key] for key in KEYS} == KEYS
    assert set(plist) - set(KEYS) == {"ProgramArguments", "WorkingDirectory", "StandardOutPath", "StandardErrorPath"}
    assert plist["ProgramArguments"] == [
        "/usr/bin/caffeinate", "-i", str(LMX), "serve", "--config", str(home / "a & b.toml")
    ]  # fmt: skip


def test_every_path_of_the_job_is_there(plist: dict[str, Any], home: Path, stand_in: Make) -> None:
    """The command can be run; folders of paths exist once it is loaded, and survive a reboot."""
    stand_in("launchctl", "[ $1 != print ]")
    Launchd(home).load()
    command, logs = Path(plist["ProgramArguments"][2]), Path(plist["StandardErrorPath"])
    assert os.access(command, os.X_OK)
    assert Path(plist["WorkingDirectory"]).is_dir()
    assert logs.parent.is_dir()
    assert logs.is_relative_to(home / "Library/Logs")
    assert "@" not in str(plist)


@pytest.mark.parametrize("text", ["plist", "unit"])
def test_every_flag_of_the_command_exists(home: Path, text: str) -> None:
    """`lmx serve --help` knows each of them."""
    config = home / "lmx.toml"
    content = (Launchd(home) if text == "plist" else Systemd(home, {})).text(LMX, config)
    flags = set(re.findall(r"--[a-z][a-z-]+", content))
    told = subprocess.run([LMX, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert flags == {"--config"}
    assert all(flag in told for flag in flags)


def test_the_time_to_stop_is_longer_than_lmx_takes(plist: dict[str, Any]) -> None:
    """Draining and unloading take their own deadlines; who waits less kills what would have ended by itself."""
    from lmx.config import Config
    from lmx.machines.server import ServerMachine

    unloading = ServerMachine.deadlines["unloading"].seconds
    longest = Config().server.drain_seconds + unloading + 2
    assert Config().server.drain_seconds == daemon.DRAIN_SECONDS
    assert plist["ExitTimeOut"] > longest
    assert seconds(unit()["Service"]["TimeoutStopSec"]) > longest


def test_the_time_to_stop_grows_with_the_drain_that_is_set(
    home: Path, stand_in: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Requests may finish for `server.drain_seconds` under a service manager, too: no SIGKILL at its half."""
    stand_in("systemctl", "")
    (home / "c.toml").write_text("server.drain_seconds = 120.5")
    assert run(["daemon", "install", "--print", "--config", str(home / "c.toml")]) == 0
    if sys.platform == "linux":
        assert "\nTimeoutStopSec=136\n" in capsys.readouterr().out
    assert plistlib.loads(Launchd(home, 120.5).text(LMX, None).encode())["ExitTimeOut"] == 151


def test_launchd_is_told_in_order(home: Path, stand_in: Make) -> None:
    """A job that runs is booted out and waited for, then the new file is bootstrapped into the user's domain."""
    there = home / "there"
    there.touch()
    script = (
        f'case $1 in print) [ -e {there} ] && echo "pid = 7" ;; bootout) rm {there} ;; bootstrap) touch {there} ;; esac'
    )
    launchctl = stand_in("launchctl", script)
    launchd = Launchd(home)
    daemon.install(launchd, None)
    target = f"gui/{os.getuid()}/com.lmx.server"
    told = [call for call in launchctl.calls() if not call.startswith("print")]
    assert told == [f"bootout {target}", f"enable {target}", f"bootstrap gui/{os.getuid()} {launchd.path}"]
    assert launchd.path == home / "Library/LaunchAgents/com.lmx.server.plist"
    assert "--config" not in plistlib.loads(launchd.path.read_bytes())["ProgramArguments"]
    assert daemon.uninstall(launchd)
    assert launchctl.calls()[-2:] == [f"bootout {target}", f"print {target}"]
    assert not launchd.path.exists()
    assert not daemon.uninstall(launchd)


PRINTED = """gui/501/com.lmx.server = {
	path = /Users/me/Library/LaunchAgents/com.lmx.server.plist
	state = running
	pid = 4711
	event triggers = {
		state = active
	}
}"""


def test_launchd_tells_how_the_job_stands(home: Path, stand_in: Make) -> None:
    """Its own state, not that of a part of it."""
    stand_in("launchctl", f"cat <<'END'\n{PRINTED}\nEND")
    assert Launchd(home).standing() == daemon.Standing(True, 4711, "running")
    stand_in("launchctl", "exit 113")
    assert not Launchd(home).standing().loaded


# --- systemd --------------------------------------------------------------------------------------------------------


def unit(config: Path | None = None) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, delimiters="=")
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(Systemd(Path.home(), {}).text(LMX, config))
    return parsed


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


VALUES = {
    "Unit": {"StartLimitIntervalSec": "600", "StartLimitBurst": "10"},
    "Service": {
        "Type": "notify", "NotifyAccess": "main", "Restart": "on-failure", "RestartSec": "2", "RestartSteps": "5",
        "RestartMaxDelaySec": "60", "WatchdogSec": "30", "TimeoutStopSec": "45", "KillMode": "mixed",
        "LimitNOFILE": "8192", "OOMPolicy": "continue", "UMask": "0077", "RestartPreventExitStatus": "64 71",
    },
    "Install": {"WantedBy": "default.target"},
}  # fmt: skip


def test_the_unit_has_these_values_where_systemd_reads_them() -> None:
    """StartLimit… is ignored outside of [Unit]: then five quick crashes are the end."""
    parsed = unit()
    assert {name: {key: parsed[name][key] for key in values} for name, values in VALUES.items()} == VALUES
    assert parsed["Service"]["ExecStart"] == f"{LMX} serve"


def test_the_watchdog_of_lmx_is_faster_than_that_of_systemd() -> None:
    """Its own end comes with the stacks of all threads in the log; systemd's is for when nothing runs any more."""
    import msgspec

    from lmx.config import Config, Watchdog

    longest = seconds(unit()["Service"]["WatchdogSec"])
    assert Config().watchdog.seconds + 2 < longest
    assert msgspec.convert({"seconds": 28}, Watchdog).seconds + 2 <= longest
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"seconds": 29}, Watchdog)


def test_systemd_finds_no_fault(home: Path, tmp_path: Path) -> None:
    """T-SD-1: `systemd-analyze verify` is silent, but for what an older systemd does not know yet."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed; the keys are held by the tests above")
    file = tmp_path / "lmx.service"
    file.write_text(Systemd(home, {}).text(LMX, home / "50% of $HOME.toml"))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [analyze, "verify", "--user", "--man=no", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    told = ended.stdout + ended.stderr
    if "SYSTEMD" in told and "bus" in told:
        pytest.skip(f"systemd-analyze cannot work here: {told}")
    newer = ("RestartSteps", "RestartMaxDelaySec")
    faults = [line for line in told.splitlines() if str(file) in line and not any(key in line for key in newer)]
    assert (ended.returncode, faults) == (0, [])


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("plain.toml", "plain.toml"),
        ("two words.toml", '"{}two words.toml"'),
        ("50%.toml", '"{}50%%.toml"'),
        ("$HOME.toml", '"{}$$HOME.toml"'),
        ('a"b.toml', '"{}a\\"b.toml"'),
        ("it's.toml", '"{}it\'s.toml"'),
    ],
)
def test_a_path_is_one_word_whatever_it_holds(name: str, quoted: str) -> None:
    """No specifier, no variable, no quote of it is systemd's."""
    line = unit(Path("/etc") / name)["Service"]["ExecStart"]
    expected = quoted.format("/etc/") if quoted.startswith('"') else f"/etc/{quoted}"
    assert line == f"{LMX} serve --config {expected}"


def test_systemd_is_told_in_order(home: Path, stand_in: Make) -> None:
    """Written, read, enabled, started anew; afterwards disabled, removed, and read again."""
    systemctl = stand_in("systemctl", "")
    systemd = Systemd(home, {})
    daemon.install(systemd, None)
    assert systemd.path == home / ".config/systemd/user/lmx.service"
    assert stat.S_ISREG(systemd.path.stat().st_mode)
    assert systemctl.calls() == [
        "--user reset-failed lmx.service", "--user daemon-reload", "--user enable lmx.service",
        "--user restart lmx.service",
    ]  # fmt: skip
    assert daemon.uninstall(systemd)
    assert systemctl.calls()[4:] == ["--user disable --now lmx.service", "--user daemon-reload"]
    assert not systemd.path.exists()
    assert not daemon.uninstall(systemd)


def test_a_manager_that_refuses_is_quoted(home: Path, stand_in: Make) -> None:
    """What it said is the sentence."""
    stand_in("systemctl", "echo 'Failed to connect to bus' >&2; [ $2 != enable ]")
    with pytest.raises(DaemonError, match=r"`systemctl --user enable lmx\.service` failed: Failed to connect to bus"):
        daemon.install(Systemd(home, {}), None)


def test_the_users_config_folder_is_where_they_say(tmp_path: Path) -> None:
    assert Systemd(Path("/home/me"), {"XDG_CONFIG_HOME": str(tmp_path)}).path.is_relative_to(tmp_path)


# --- the command ----------------------------------------------------------------------------------------------------


def test_print_changes_nothing(home: Path, stand_in: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's path and content, and nobody is told anything."""
    systemctl = stand_in("systemctl", "")
    (home / "c.toml").write_text("")
    assert run(["daemon", "install", "--print", "--config", str(home / "c.toml")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"# {home}/.config/systemd/user/lmx.service\n")
    assert f"ExecStart={LMX} serve --config {home}/c.toml\n" in printed
    assert systemctl.calls() == []
    assert list(home.iterdir()) == [home / "c.toml"]


def test_it_is_installed_by_one_command(home: Path, stand_in: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """And uninstalled by another one."""
    stand_in("systemctl", "")
    assert run(["daemon", "install"]) == 0
    assert (home / ".config/systemd/user/lmx.service").exists()
    assert run(["daemon", "uninstall"]) == 0
    assert not (home / ".config/systemd/user/lmx.service").exists()
    assert run(["daemon", "uninstall"]) == 0
    assert capsys.readouterr().out.endswith("lmx is not installed as a daemon.\n")


def test_a_bad_config_is_told_before_anything_is_written(
    home: Path, stand_in: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 64, as of `lmx serve`; a service that cannot start helps nobody."""
    systemctl = stand_in("systemctl", "")
    (home / "bad.toml").write_text("port = 1")
    assert run(["daemon", "install", "--config", str(home / "bad.toml")]) == 64
    assert "bad.toml" in capsys.readouterr().err
    assert systemctl.calls() == []


def test_what_the_service_would_not_see_is_refused(
    home: Path, stand_in: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of this shell are not the service's, which would end with 64 without a key. LMX_CONFIG is a path."""
    systemctl = stand_in("systemctl", "")
    monkeypatch.setenv("LMX_KEYS_INFERENCE", "a-long-secret")
    monkeypatch.setenv("LMX_HOST", "0.0.0.0")
    assert run(["daemon", "install"]) == 64
    assert "The service will not see LMX_HOST, LMX_KEYS_INFERENCE:" in capsys.readouterr().err
    assert systemctl.calls() == []
    monkeypatch.delenv("LMX_KEYS_INFERENCE")
    monkeypatch.delenv("LMX_HOST")
    (home / "c.toml").write_text("")
    monkeypatch.setenv("LMX_CONFIG", str(home / "c.toml"))
    assert run(["daemon", "install", "--print"]) == 0
    assert f"serve --config {home}/c.toml\n" in capsys.readouterr().out


def test_a_machine_without_a_manager_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container has neither: exit code 69 and what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["daemon", "install"]) == 69
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "run `lmx serve` under the service manager" in said


@pytest.mark.parametrize(("platform", "kind"), [("darwin", Launchd), ("linux", Systemd)])
def test_each_system_has_its_manager(home: Path, stand_in: Make, platform: str, kind: type) -> None:
    stand_in("launchctl", "")
    stand_in("systemctl", "")
    assert type(daemon.manager(home, os.environ, platform)) is kind


SHOWN = "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=4711"


class Ready(BaseHTTPRequestHandler):
    """An lmx that is alive and not ready."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"ready": false, "reason": "No model is ready.", "models": {}, "degraded": []}')

    def log_message(self, format: str, *args: object) -> None:
        pass


class Stranger(Ready):
    """Another server that answers with JSON."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"error": "Unexpected endpoint or method."}')


class Babble(BaseRequestHandler):
    """Something else has the port."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"no HTTP at all\r\n\r\n")


def test_who_is_not_lmx_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback; and no proxy is asked for what is on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for handler, known in ((Babble, False), (Stranger, False), (Ready, True)):
        with HTTPServer(("127.0.0.1", 0), cast("Any", handler)) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            assert (readiness(f"http://127.0.0.1:{server.server_port}") is not None) == known
            thread.join()


def test_status_asks_the_manager_and_the_server(stand_in: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """0 while somebody answers, ready or not; 3 when nobody does, whatever the manager says."""
    stand_in("systemctl", f"printf '{SHOWN}'")
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert run(["daemon", "status", "--url", url]) == 0
        finally:
            server.shutdown()
            thread.join()
    told = capsys.readouterr().out
    assert re.search(r"^pid +4711$", told, re.MULTILINE)
    assert re.search(r"^manager +active \(running\)$", told, re.MULTILINE)
    assert re.search(r"^reason +No model is ready\.$", told, re.MULTILINE)
    assert run(["daemon", "status", "--url", url]) == 3
