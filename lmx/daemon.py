"""Hands lmx over to who keeps it running: launchd on macOS, the user's systemd on Linux. Templates are in ops/."""

import http.client
import json
import os
import plistlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import lmx

UNAVAILABLE = 69
LABEL = "com.lmx.server"
UNIT = "lmx.service"
DRAIN_SECONDS = 30.0
"""What `server.drain_seconds` is when nobody says otherwise."""
MANAGER_SECONDS = 70.0
"""With the draining longer than the service may take to stop, and then to start."""
BOOTOUT_SECONDS = 40.0
"""After the draining. launchctl returns from a bootout before the job has ended, and takes no new one until then."""
STOP_SECONDS = 15
"""What a stop takes after the draining, before systemd ends it."""
ASK_SECONDS = 5.0
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""By no proxy, as lmx's other commands."""


class DaemonError(Exception):
    """It cannot be done. The message is one sentence, `code` the exit code."""

    def __init__(self, message: str, code: int = UNAVAILABLE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Standing:
    """How the service stands with its manager."""

    loaded: bool
    pid: int | None
    detail: str


class Manager(Protocol):
    """One service manager; every method but `text` asks or tells it, and raises DaemonError."""

    path: Path
    """The file that tells it about lmx."""

    def text(self, executable: Path, config: Path | None) -> str:
        """What the file is to hold."""
        ...

    def load(self) -> None:
        """Start lmx by the file, in place of one that runs."""
        ...

    def unload(self) -> None:
        """Stop lmx; nothing to do when it does not know it."""
        ...

    def forget(self) -> None:
        """The file is gone."""
        ...

    def standing(self) -> Standing: ...


class Launchd:
    def __init__(self, home: Path, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._home = home
        self._drain_seconds = drain_seconds
        self._domain = f"gui/{os.getuid()}"
        self._target = f"{self._domain}/{LABEL}"
        self.path = home / "Library/LaunchAgents" / f"{LABEL}.plist"

    def text(self, executable: Path, config: Path | None) -> str:
        job = plistlib.loads(template("launchd", f"{LABEL}.plist").encode())
        filled = _filled(job, {"@LMX@": str(executable), "@HOME@": str(self._home)})
        if config is not None:
            filled["ProgramArguments"] += ["--config", str(config)]
        filled["ExitTimeOut"] += ceil(self._drain_seconds)
        return plistlib.dumps(filled, sort_keys=False).decode()

    def load(self) -> None:
        logs = self._home / "Library/Logs/lmx"
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DaemonError(f"{logs} cannot be made: {error.strerror}.") from error
        self.unload()
        _run("launchctl", "enable", self._target)
        _run("launchctl", "bootstrap", self._domain, str(self.path))

    def unload(self) -> None:
        if self.standing().loaded:
            _run("launchctl", "bootout", self._target)
            deadline = time.monotonic() + self._drain_seconds + BOOTOUT_SECONDS
            while self.standing().loaded:
                if time.monotonic() > deadline:
                    raise DaemonError(f"{LABEL} does not stop: `launchctl print {self._target}` tells more.")
                time.sleep(0.2)

    def forget(self) -> None:
        """A job that was booted out is forgotten."""

    def standing(self) -> Standing:
        known = _tried("launchctl", "print", self._target)
        if known.returncode:
            return Standing(False, None, "launchd does not know it")
        told = [line.strip().partition(" = ") for line in known.stdout.splitlines()]
        facts = {key: value for key, _, value in reversed(told)}  # of equal keys the first, which is the job's own
        pid = facts.get("pid", "")
        return Standing(True, int(pid) if pid.isdigit() else None, facts.get("state", "unknown"))


class Systemd:
    def __init__(self, home: Path, environ: Mapping[str, str], drain_seconds: float = DRAIN_SECONDS) -> None:
        self._drain_seconds = drain_seconds
        folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        self.path = folder / "systemd/user" / UNIT

    def text(self, executable: Path, config: Path | None) -> str:
        arguments = [str(executable), "serve", *(["--config", str(config)] if config is not None else [])]
        unit = template("systemd", UNIT).replace("@STOP_SECONDS@", str(STOP_SECONDS + ceil(self._drain_seconds)))
        return unit.replace("=@COMMAND@", "=" + " ".join(map(_quoted, arguments)))

    def load(self) -> None:
        _tried("systemctl", "--user", "reset-failed", UNIT)  # it may have been given up on; else there is nothing to do
        _run("systemctl", "--user", "daemon-reload")
        _run("systemctl", "--user", "enable", UNIT)
        _run("systemctl", "--user", "restart", UNIT, drain_seconds=self._drain_seconds)

    def unload(self) -> None:
        if self.path.exists():
            _run("systemctl", "--user", "disable", "--now", UNIT, drain_seconds=self._drain_seconds)

    def forget(self) -> None:
        _run("systemctl", "--user", "daemon-reload")

    def standing(self) -> Standing:
        wanted = "--property=LoadState,ActiveState,SubState,MainPID"
        known = _tried("systemctl", "--user", "show", UNIT, wanted)
        if known.returncode:
            return Standing(False, None, " ".join(known.stderr.split()))
        facts = dict(line.split("=", 1) for line in known.stdout.splitlines() if "=" in line)
        pid = facts.get("MainPID", "0")
        state = f"{facts.get('ActiveState', 'unknown')} ({facts.get('SubState', 'unknown')})"
        return Standing(facts.get("LoadState") == "loaded", int(pid) if pid.isdigit() and int(pid) else None, state)


def manager(
    home: Path, environ: Mapping[str, str], platform: str = sys.platform, drain_seconds: float = DRAIN_SECONDS
) -> Manager:
    """Of this machine; it lets lmx drain for so long. Raises DaemonError when there is none that we know."""
    command = "launchctl" if platform == "darwin" else "systemctl"
    if shutil.which(command, path=environ.get("PATH")) is None:
        text = f"There is no {command} here: run `lmx serve` under the service manager that this machine has."
        raise DaemonError(text)
    return Launchd(home, drain_seconds) if platform == "darwin" else Systemd(home, environ, drain_seconds)


def executable() -> Path:
    """The `lmx` command of this installation. Raises DaemonError."""
    found = Path(sys.executable).with_name("lmx")
    if not os.access(found, os.X_OK):
        raise DaemonError(f"There is no {found}: install lmx, so that its command is where its Python is.")
    return found


def install(by: Manager, config: Path | None) -> None:
    """Write the file and start lmx by it. Raises DaemonError."""
    text = by.text(executable(), config)
    fresh = by.path.with_suffix(".new")
    try:
        by.path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(by.path)
    except OSError as error:
        raise DaemonError(f"{by.path} cannot be written: {error.strerror}.") from error
    by.load()


def uninstall(by: Manager) -> bool:
    """Stop lmx and remove the file; False when there was none. Raises DaemonError."""
    by.unload()
    try:
        by.path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DaemonError(f"{by.path} cannot be removed: {error.strerror}.") from error
    by.forget()
    return True


def readiness(url: str) -> dict[str, Any] | None:
    """What /readyz says, whatever the status; None when nobody answers, or something else than lmx."""
    try:
        with DIRECTLY.open(f"{url}/readyz", timeout=ASK_SECONDS) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
    except (OSError, http.client.HTTPException):
        return None
    try:
        told = json.loads(content)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "ready" in told else None


def template(folder: str, name: str) -> str:
    """From ops/, which lies in the package when that is installed, and beside it in the repository."""
    package = Path(lmx.__file__).parent
    paths = (package / "ops" / folder / name, package.parent / "ops" / folder / name)
    return next(path for path in paths if path.exists()).read_text(encoding="utf-8")


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {key: _filled(one, words) for key, one in value.items()}
        case list():
            return [_filled(one, words) for one in value]
        case str():
            for word, text in words.items():
                value = value.replace(word, text)
    return value


def _quoted(argument: str) -> str:
    """As systemd reads it in ExecStart: no specifiers, no variables, no escapes."""
    plain = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if plain != argument or any(map(str.isspace, argument)) or "'" in argument else argument


def _run(*command: str, drain_seconds: float = DRAIN_SECONDS) -> str:
    """Its output. Raises DaemonError with what it complained about."""
    ended = _tried(*command, seconds=drain_seconds + MANAGER_SECONDS)
    if ended.returncode:
        why = " ".join((ended.stderr or ended.stdout).split()) or f"exit code {ended.returncode}"
        raise DaemonError(f"`{' '.join(command)}` failed: {why}")
    return ended.stdout


def _tried(*command: str, seconds: float = DRAIN_SECONDS + MANAGER_SECONDS) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except OSError as error:
        raise DaemonError(f"`{command[0]}` cannot be run: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        raise DaemonError(f"`{' '.join(command)}` took longer than {seconds:g} s.") from None
