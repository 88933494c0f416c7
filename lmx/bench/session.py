"""One run: which model, which servers, which workloads; from there to a report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lmx.bench import models, report, sites
from lmx.bench.lab import CONTEXT, Lab
from lmx.bench.models import BenchModel, Quant
from lmx.bench.report import Report
from lmx.bench.runner import Measured, Say, run
from lmx.bench.sites import Site
from lmx.bench.wire import BenchError
from lmx.bench.workloads import WORKLOADS

MLX = ("mlx-conc8", "mlx-stall")
"""Workloads that are run with an mlx-lm folder too."""
PREFIX = "mlx-"
NAMES = (*WORKLOADS, *MLX)
QUICK = ("solo", "conc8", "prefix", "turns", "overhead")
USERS = ("solo", "conc8", "stall", "prefix")
"""What means something with any model."""
LLAMA, MLX_LM = "llama_cpp.server", "mlx_lm.server"
PEERS = (LLAMA, MLX_LM)
BUSY = 0.1
"""Share of the cores from which on others disturb the measurements."""


@dataclass(frozen=True)
class Session:
    """What to measure. `model` replaces the one that is made; `rounds` 0 = what each workload finds right."""

    say: Say
    only: Sequence[str] = NAMES
    peers: Sequence[str] = ()
    urls: Sequence[str] = ()
    shape: str = "135m"
    quant: Quant = "q8_0"
    model: Path | None = None
    rounds: int = 0
    threads: int = 0

    def run(self) -> Report:
        """Raises BenchError when there is nothing to measure with; a server that fails is part of the report."""
        began = time.monotonic()
        machine = report.machine()
        if machine.busy > BUSY:
            self.say(f"The machine is busy ({machine.busy:.0%} of its cores): the ratios will be noisy.")
        rows = [*self._given()] if self.model else [*self._gguf(), *self._mlx()]
        title = str(self.model or f"{self.shape} {self.quant}")
        seconds = time.monotonic() - began
        return Report(model=title, when=report.now(), machine=machine, measured=tuple(rows), seconds=seconds)

    def _given(self) -> Iterator[Measured]:
        assert self.model is not None
        with self._lab(self.model, None) as lab:
            yield from self._measure(lab, self.only)

    def _gguf(self) -> Iterator[Measured]:
        names = [name for name in self.only if name in WORKLOADS]
        if names:
            self.say(f"Making the model {self.shape} {self.quant}, unless it is there.")
            model = models.cached(self.shape, self.quant)
            with self._lab(model.gguf, model) as lab:
                yield from self._measure(lab, names)

    def _mlx(self) -> Iterator[Measured]:
        names = [name.removeprefix(PREFIX) for name in self.only if name in MLX]
        if names and not sites.installed("mlx_lm"):
            self.say("mlx-lm is not installed: its workloads are left out.")
        elif names:
            model = models.cached("tiny", "f16")
            with self._lab(model.mlx, model) as lab:
                for row in self._measure(lab, names):
                    yield msgspec.structs.replace(row, workload=PREFIX + row.workload)

    def _measure(self, lab: Lab, names: Sequence[str]) -> Iterator[Measured]:
        with ExitStack() as stack:
            asked = any(not WORKLOADS[name].only_lmx for name in names)
            others = list(self._others(lab, stack)) if asked else []
            for name in names:
                workload = WORKLOADS[name]()
                self.say(f"{name}: {workload.about}")
                usual = max(1, workload.rounds // 2) if lab.mlx else workload.rounds  # slow on a CPU
                yield from run(lab, workload, others, self.rounds or usual, self.say)

    def _others(self, lab: Lab, stack: ExitStack) -> Iterator[Site]:
        peer = MLX_LM if lab.mlx else LLAMA
        start = _mlx_lm if lab.mlx else _llama_cpp
        starts: list[tuple[str, Callable[[], AbstractContextManager[Site]]]] = []
        if peer in self.peers:
            starts.append((peer, lambda: start(lab)))
        starts += [(url, lambda url=url: _running(url)) for url in self.urls]  # type: ignore[misc]
        for name, begin in starts:
            self.say(f"Starting {name}.")
            try:
                yield stack.enter_context(begin())
            except BenchError as error:
                self.say(f"Without {name}: {error}")

    @contextmanager
    def _lab(self, model: Path, bench: BenchModel | None) -> Iterator[Lab]:
        lab = Lab(model, bench, self.threads)
        try:
            self.say("Starting lmx.")
            assert lab.main
            yield lab
        finally:
            lab.close()


def chosen(only: str, names: Sequence[str]) -> list[str]:
    """The names in `only`, in the order of `names`; all of them when it is empty. Raises BenchError."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise BenchError(f"There is no {name} here, only {', '.join(names)}.")
    return [name for name in names if name in wanted or not wanted]


@contextmanager
def _llama_cpp(lab: Lab) -> Iterator[Site]:
    python = sites.peer_python(models.home(), models.home().parent / "wheels")
    with sites.llama_cpp_server(lab.model, CONTEXT, lab.threads or sites.physical_cores(), python) as site:
        yield site


@contextmanager
def _mlx_lm(lab: Lab) -> Iterator[Site]:
    with sites.mlx_lm_server(lab.model) as site:
        yield site


@contextmanager
def _running(text: str) -> Iterator[Site]:
    """`NAME=URL`, or just the address."""
    name, sign, url = text.partition("=")
    url = (url if sign else text).rstrip("/").removesuffix("/v1")
    yield sites.given(name if sign else url, url)
