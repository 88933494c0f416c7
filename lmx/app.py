"""The composition root: what is started, in which order, and stopped in reverse."""

import asyncio
import errno
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pykka
import structlog

from lmx import guide_record, logs, signals
from lmx.actors.admission import AdmissionActor
from lmx.actors.base import Address, House
from lmx.actors.crash_loop import CrashLoopActor
from lmx.actors.journal import JournalActor
from lmx.actors.loader import LoaderActor
from lmx.actors.messages import admission, crash_loop, journal, loader, model, server, state, supervisor
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.actors.ports import Clock, Launcher, MemoryGauge, StartHistory
from lmx.actors.server import ServerActor
from lmx.actors.state import StateActor
from lmx.actors.supervisor import SupervisorActor
from lmx.actors.timers import TimerThread
from lmx.catalog import preloaded
from lmx.config import Config
from lmx.http import application
from lmx.http.gateway import Gateway
from lmx.machines import diagrams
from lmx.machines.admission import Limits
from lmx.machines.types import ModelSpec
from lmx.state import StartFile
from lmx.system import ProcessLauncher, SystemClock, SystemMemory, need_bytes

PORT_TAKEN = 69
STOP_SECONDS = 5.0


class StartError(Exception):
    """The daemon cannot start; the message is one sentence, `code` the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Daemon:
    """All actors. `exited` is set to the exit code when the server actor has stopped everything."""

    def __init__(self, config: Config, specs: tuple[ModelSpec, ...]) -> None:
        self._config = config
        self._specs = specs
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._started: list[Address[Any]] = []
        self._clock: Clock = SystemClock()
        self._timers = TimerThread(self._clock)

    def start(self) -> None:
        """Start the actors in the order of their dependencies; no worker is started yet."""
        config = self._config
        self._timers.start()
        watch: Ref[supervisor.Message] = self._enlist(SupervisorActor.start(self._clock, self._escalate))
        self.journal: Ref[journal.Message] = self._enlist(JournalActor.start(watch))
        remember: Ref[state.Message] = self._enlist(StateActor.start("state", watch))
        house = House(self.journal, remember, watch, self._timers, self._clock)
        models: dict[str, Ref[model.Message]] = {}
        gauge: MemoryGauge = SystemMemory()
        load: Ref[loader.Message] = self._enlist(LoaderActor.start(house, gauge, config.memory.share, models))
        launcher: Launcher = ProcessLauncher()
        for spec in self._specs:
            models[spec.name] = self._enlist(
                ModelActor.start(house, spec, need_bytes(spec), guide_record.of(spec), load, launcher, Random())
            )
        history: StartHistory = StartFile(Path(config.state_dir).expanduser())
        self.crash_loop: Ref[crash_loop.Message] = self._enlist(CrashLoopActor.start(house, history, load))
        asks = config.admission
        limits = Limits(max_in_flight=asks.max_in_flight, throttle_at=asks.throttle_at, per_client=asks.per_client)
        self.admission: Ref[admission.Message] = self._enlist(
            AdmissionActor.start(house, models, limits, asks.request_seconds)
        )
        self.server: Ref[server.Message] = self._start_server(house, models)

    def stop(self) -> None:
        """Stop the actors, the last started first; blocks for seconds at most."""
        for actor in reversed(self._started):
            actor.stop(STOP_SECONDS)
        self._timers.stop()

    def _start_server(self, house: House, models: Mapping[str, Ref[model.Message]]) -> Ref[server.Message]:
        names = [spec.name for spec in preloaded(self._config, self._specs)]
        drain = self._config.server.drain_seconds
        return self._enlist(ServerActor.start(house, self.admission, self.crash_loop, models, names, drain, self._exit))

    def _enlist(self, actor: pykka.ActorRef[Any]) -> Address[Any]:
        address: Address[Any] = Address(actor)
        self._started.append(address)
        return address

    def _escalate(self, reason: str) -> None:
        self.server.tell(server.Escalated(reason))

    def _exit(self, code: int) -> None:
        """Called in the server actor's thread."""
        self._loop.call_soon_threadsafe(self._exited, code)

    def _exited(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)


def serve(config: Config, specs: tuple[ModelSpec, ...]) -> int:
    """Serve until asked to stop; returns the exit code. Raises StartError."""
    logs.configure(config.logs)
    return asyncio.run(_serve(config, specs))


async def _serve(config: Config, specs: tuple[ModelSpec, ...]) -> int:
    log = structlog.get_logger()
    daemon = Daemon(config, specs)
    daemon.start()
    try:
        site = await _listen(config, specs, daemon)
        try:
            signals.install(asyncio.get_running_loop(), lambda reason: daemon.server.tell(server.Stop(reason)))
            log.info("listening", url=f"http://{config.server.host}:{site.port}", models=[spec.name for spec in specs])
            daemon.server.tell(server.Start())
            code = await daemon.exited
        finally:
            await site.stop()
    finally:
        await asyncio.to_thread(daemon.stop)
    log.info("stopped", code=code)
    return code


async def _listen(config: Config, specs: tuple[ModelSpec, ...], daemon: Daemon) -> application.Site:
    gateway = Gateway(
        admission=daemon.admission,
        journal=daemon.journal,
        crash_loop=daemon.crash_loop,
        models=tuple(spec.name for spec in specs),
        diagram=diagrams.render,
        started=int(time.time()),
        default_model=config.default_model or None,
        heartbeat_seconds=config.server.heartbeat_seconds,
    )
    host, port = config.server.host, config.server.port
    try:
        return await application.start(application.build(gateway), host, port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        what = "is taken by another program" if taken else f"cannot be used ({error.strerror})"
        raise StartError(f"{host}:{port} {what}: choose another one with --host or --port.", PORT_TAKEN) from error
