"""Nine kinds of clients for long: none may fail, nothing may grow, and the log has no error that nobody caused."""

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.soak.client import Client, Wrong
from tests.chaos.soak.meters import Log, Reading, Tally, breaches, read
from tests.chaos.soak.shapes import MORTALS, SHAPES, Shape, World, machine
from tests.support.server import Server

CONFIG = """
[admission]
queue_per_client = 128
[logs]
format = "json"
[defaults]
slots = 4
threads = 1
[models.steady]
backend = "fake"
script = "step=0.015"
[models.fleeting]
backend = "fake"
script = "load=0.5; step=0.01"
"""
CONFIG += "".join(f'[models.{name}]\nbackend = "fake"\nscript = "step=0.015"\n' for name in MORTALS)
OUT = Path("dist/soak/soak.json")
WARM_UP, LOOK, HANG = 60.0, 5.0, 300.0
"""Seconds: until the first reading; between two looks at the threads; a step may take."""


NOTHING = Reading(0.0, 0, 0)


class Halted(Exception):
    """It makes no sense to go on; why."""


class Crew:
    """The threads of the clients. `rest` lets each end its step."""

    def __init__(self, client: Client, models: tuple[str, ...], seed: int) -> None:
        self.tallies = {shape.name: Tally() for shape in SHAPES}
        self.began: dict[str, float] = {}
        """The steps that are being done now, and since when."""
        self._going = threading.Event()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._live,
                args=(shape, World(client, random.Random(f"{seed} {shape.name}"), models)),
                name=shape.name,
                daemon=True,
            )
            for shape in SHAPES
        ]
        for thread in self._threads:
            thread.start()

    def go(self) -> None:
        self._going.set()

    def rest(self) -> None:
        self._going.clear()
        self._until_idle()

    def end(self) -> None:
        self._over.set()
        self._going.set()
        self._until_idle()

    def trouble(self) -> list[str]:
        """Threads that died, and steps that hang."""
        now = time.monotonic()
        dead = [f"{one.name}: its thread died" for one in self._threads if not one.is_alive()]
        return dead + [f"{name}: a step hangs" for name, since in list(self.began.items()) if now - since > HANG]

    def _until_idle(self) -> None:
        until = time.monotonic() + HANG
        while self.began and time.monotonic() < until:
            time.sleep(0.1)

    def _live(self, shape: Shape, world: World) -> None:
        while not self._over.wait(shape.pause * world.chance.uniform(0.5, 1.5)):
            self._going.wait()
            self.began[shape.name] = time.monotonic()
            if self._going.is_set() and not self._over.is_set():
                self._do(shape, world)
            del self.began[shape.name]

    def _do(self, shape: Shape, world: World) -> None:
        tally = self.tallies[shape.name]
        tally.done += 1
        try:
            shape.step(world)
        except (Wrong, OSError, http.client.HTTPException, ValueError, LookupError, StopIteration) as error:
            tally.fail(f"{type(error).__name__}: {error}")


def soak(seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """What was done, what failed, what was measured, and what of it may not be."""
    server = Server(folder, CONFIG)
    log = Log(server.log)
    server.log = log
    server.ready()
    client = Client(server.url)
    models = tuple(model["id"] for model in client.ask("/v1/models")[1]["data"])
    for model in models:
        client.ask(f"/admin/models/{model}/load", b"")
    crew = Crew(client, models, seed)
    before = after = NOTHING
    try:
        work(crew, server, WARM_UP)
        before = at_rest(crew, server)
        work(crew, server, seconds)
        after = at_rest(crew, server)
        found = breaches(before, after)
        found += [f"{model}: {now}" for model in models if (now := standing(client, model)) != ("ready", 0)]
    except Halted as trouble:
        found = [str(trouble)]
    crew.end()
    if code := server.stop(60.0):
        found.append(f"it ended with {code}")
    odd = log.gists()
    found += [f"{name}: {tally.failed} failed" for name, tally in crew.tallies.items() if tally.failed]
    found += [f"{sum(odd.values())} lines of the log that nobody has explained"] if odd else []
    return {
        "seed": seed,
        "seconds": seconds,
        "models": models,
        "shapes": {name: tally.as_dict() for name, tally in crew.tallies.items()},
        "before": asdict(before),
        "after": asdict(after),
        "log": odd,
        "examples": [line[:5000] for line in log[:5]],
        "breaches": found,
    }


def work(crew: Crew, server: Server, seconds: float) -> None:
    """Let all work for so long. Raises Halted when one hangs or dies."""
    crew.go()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(LOOK)
        if server.process.poll() is not None:
            raise Halted(f"lmx ended with {server.process.returncode}")
        if trouble := crew.trouble():
            raise Halted("; ".join(trouble))


def at_rest(crew: Crew, server: Server) -> Reading:
    """When all have paused and what they left has ended."""
    crew.rest()
    time.sleep(5.0)
    return read(server.pid)


def standing(client: Client, model: str) -> tuple[str, int]:
    """State, and sequences in flight."""
    now = machine(client, model)
    return str(now["state"]), int(now["facts"].get("in_flight") or 0)


def table(result: dict[str, Any]) -> str:
    lines = [f"{'shape':20} {'done':>7} {'failed':>7}"]
    for name, tally in result["shapes"].items():
        lines.append(f"{name:20} {tally['done']:7} {tally['failed']:7}")
        lines += [f"    {failure}" for failure in tally["failures"]]
    lines += ["", f"after the warm-up {result['before']}", f"at the end        {result['after']}"]
    lines += [f"{count} x {text}" for text, count in result["log"].items()]
    return "\n".join([*lines, "", *(result["breaches"] or ["Nothing failed, nothing grew."])])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long, after a minute of warm-up")
    parser.add_argument("--hours", type=float, default=0.0, help="the same; 7 is what is promised")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    asked = parser.parse_args()
    seconds = asked.hours * 3600 or asked.minutes * 60
    print(f"seed {asked.seed}, {seconds / 60:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="lmx-soak-") as folder:
        result = soak(seconds, asked.seed, Path(folder))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    return 1 if result["breaches"] else 0


if __name__ == "__main__":
    sys.exit(main())
