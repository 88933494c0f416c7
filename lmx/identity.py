"""What golden answers and quarantines are kept for: this machine, this version of lmx, these files."""

import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from msgspec.structs import replace

from lmx import __version__
from lmx.machines.types import BackendName, ModelSpec

LIBRARIES: Mapping[BackendName, tuple[str, ...]] = {
    "mlx": ("mlx", "mlx-lm"),
    "llama_cpp": ("llama-cpp-python",),
    "fake": (),
}


@cache
def host() -> str:
    """lmx's version, the OS build and the chip, in one line."""
    return f"lmx {__version__} {platform.platform()} {platform.machine()} {_chip()}"


def quarantine_key(spec: ModelSpec) -> str:
    """By the names, sizes and times of the model's files, its settings, and the versions of all that runs it."""
    libraries = (f"{name} {_version(name)}" for name in LIBRARIES[spec.backend])
    settings = msgspec.json.encode(replace(spec, name="", pinned=False, keep_alive_seconds=0.0)).decode()
    paths = (spec.path, spec.draft, spec.mmproj, spec.chat_template, *(adapter.path for adapter in spec.adapters))
    files = (line for path in paths if path for line in _listed(Path(path)))
    return sha256("\0".join((host(), *libraries, settings, *files)).encode()).hexdigest()


def _listed(path: Path) -> Iterable[str]:
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            stat = file.stat()
            yield f"{file} {stat.st_size} {stat.st_mtime_ns}"
    except OSError as error:
        yield f"{path} {error.strerror}"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _chip() -> str:
    """What the system calls its processor: macOS tells it when asked, Linux in a file."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
