"""What the daemon remembers between starts: a small JSON file that is replaced whole or not at all."""

import json
import os
from pathlib import Path


class StartFile:
    """The `StartHistory` port on a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "runtime-state.json"

    def read(self) -> list[float]:
        """An unreadable content counts as no history: it must not keep the daemon from starting."""
        try:
            starts = json.loads(self._path.read_bytes())["starts"]
            return [float(start) for start in starts]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise OSError(f"{self._path} is damaged: {error}") from error

    def write(self, starts: list[float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump({"starts": starts}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
