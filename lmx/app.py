"""The composition root: what is started, in which order, and stopped in reverse."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pykka
import structlog

from lmx import access, descriptors, guide_record, identity, logs, responses_store, signals, watchdog
from lmx.actors.admission import AdmissionActor
from lmx.actors.alias import AliasActor
from lmx.actors.base import Address, House
from lmx.actors.crash_loop import CrashLoopActor
from lmx.actors.dossier import Dossier
from lmx.actors.journal import JournalActor
from lmx.actors.loader import LoaderActor
from lmx.actors.memory import MemoryActor
from lmx.actors.messages import admission, alias, crash_loop, journal, loader, model, server, state, supervisor
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.actors.ports import Clock, Launcher, MemoryGauge, Scales
from lmx.actors.server import ServerActor
from lmx.actors.state import StateActor
from lmx.actors.supervisor import SupervisorActor
from lmx.actors.timers import TimerThread
from lmx.catalog import preloaded
from lmx.chaos import Chaos, Gauge
from lmx.config import Config
from lmx.descriptors import Reserve
from lmx.http import application
from lmx.http.browser import Neighbours
from lmx.http.gateway import Closing, Gateway
from lmx.http.keys import KeyRing
from lmx.journal import Journal, opened
from lmx.journal_reader import page_of
from lmx.machines import diagrams
from lmx.machines.admission import Limits
from lmx.machines.types import ModelSpec
from lmx.naming import names_of
from lmx.notify import Notify
from lmx.recovery import Past, recover
from lmx.scales import FileScales
from lmx.state import FolderTaken, StateLost
from lmx.system import ProcessLauncher, SystemClock, SystemMemory, port_owner
from lmx.vitals import Physician

MISCONFIGURED = 64
TAKEN = 69
"""Exit code: the port or the folder of what lasts belongs to another process."""
STATE_LOST = 71
STOP_SECONDS = 5.0
LEAVE_SECONDS = 30.0
"""For all of the stop, once every answer is out: asyncio waits for its threads, and one may wait for a disk."""
LOG_SECONDS = 2.0
"""How long the last log lines may take to be read."""
LAST_WORDS_SECONDS = 1.0
"""For answers that are still being written when everything else is down."""


class StartError(Exception):
    """The daemon cannot start; the message is one sentence, `code` the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Daemon:
    """All actors. `exited` is set to the exit code when the server actor has stopped everything."""

    def __init__(self, config: Config, specs: tuple[ModelSpec, ...], past: Past) -> None:
        self._config = config
        self._past = past
        self._specs = specs
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._started: list[Address[Any]] = []
        self._clock: Clock = SystemClock()
        self._timers = TimerThread(self._clock)
        self.closing = Closing()
        self._gauge = Gauge(SystemMemory())
        self._store: Journal | None = opened(config, self._clock)
        self.responses = responses_store.opened(config)

    def start(self) -> None:
        """Start the actors in the order of their dependencies; no worker is started yet."""
        config = self._config
        self._timers.start()
        watch: Ref[supervisor.Message] = self._enlist(SupervisorActor.start(self._clock, self._escalate))
        self.journal: Ref[journal.Message] = self._enlist(JournalActor.start(watch, self._store))
        self._start_store()
        remember = self._start_state(watch)
        house = House(self.journal, remember, watch, self._timers, self._clock)
        models: dict[str, Ref[model.Message]] = {}
        gauge: MemoryGauge = self._gauge
        load: Ref[loader.Message] = self._enlist(LoaderActor.start(house, gauge, config.memory.share, models))
        launcher: Launcher = ProcessLauncher(Reserve())
        scales: Scales = FileScales(self._timers, gauge)
        for spec in self._specs:
            models[spec.name] = self._enlist(
                ModelActor.start(
                    house, spec, scales, guide_record.of(spec), load, launcher, Random(), self._dossier(spec)
                )
            )
        starts = self._past.state.starts
        self.crash_loop: Ref[crash_loop.Message] = self._enlist(CrashLoopActor.start(house, starts, load))
        asks = config.admission
        limits = Limits(queue=asks.queue, queue_per_client=asks.queue_per_client, max_in_flight=asks.max_in_flight)
        self.admission: Ref[admission.Message] = self._enlist(
            AdmissionActor.start(house, models, limits, asks.request_seconds, asks.queue_seconds)
        )
        self.aliases: Mapping[str, Ref[alias.Message]] = {
            name: self._enlist(AliasActor.start(house, name, means[0], models, self.admission, means[1:]))
            for name, means in names_of(config).aliases.items()
        }
        memory = self._enlist(MemoryActor.start(house, gauge, models, load, self.admission, self.closing))
        self.server: Ref[server.Message] = self._start_server(house, models)
        self.models = models
        self._others: dict[str, Ref[Any]] = {"state": remember, "loader": load, "memory": memory}

    def guard(self, notify: Notify) -> watchdog.Watchdog:
        """A watchdog over the loop and whatever must answer for requests to be answered; it is not started."""
        guard = watchdog.Watchdog(self._config.watchdog.seconds, notify, watchdog.end_process)
        guard.watch("loop", watchdog.of_loop(self._loop))
        guard.watch("timers", watchdog.of_timers(self._timers))
        for name, ref in (("journal", self.journal), ("admission", self.admission), ("server", self.server)):
            guard.watch(name, watchdog.of_actor(ref))
        for name, actor in self.models.items():
            guard.watch(f"model:{name}", watchdog.of_actor(actor))
        return guard

    def chaos(self) -> Chaos | None:
        """What may break the daemon; None where nothing may."""
        if not self._config.chaos.enabled:
            return None
        actors = self._others | {"admission": self.admission, "crash_loop": self.crash_loop, "journal": self.journal}
        actors |= {"server": self.server} | {f"model:{name}": ref for name, ref in self.models.items()}
        actors |= {f"alias:{name}": ref for name, ref in self.aliases.items()}
        return Chaos(self._gauge, self._loop, actors, self.journal, self._clock)

    def stop(self) -> None:
        """Stop the actors, the last started first; blocks for seconds at most."""
        for actor in reversed(self._started):
            actor.stop(STOP_SECONDS)
        if self._store is not None:
            self._store.stop(STOP_SECONDS)
        if self.responses is not None:
            self.responses.stop(STOP_SECONDS)
        self._timers.stop()

    def _start_state(self, watch: Ref[supervisor.Message]) -> Ref[state.Message]:
        past = self._past
        return self._enlist(
            StateActor.start(past.store, past.state, self.journal, watch, self._timers, self._clock, past.recovered)
        )

    def _dossier(self, spec: ModelSpec) -> Dossier:
        """A quarantine lasts as long as the files and whatever runs them stay the same."""
        past = self._past.state
        barred = past.quarantine.get(spec.name)
        if barred is not None and barred.key != identity.quarantine_key(spec):
            barred = None
        idle_seconds = self._config.liveness.canary_idle_seconds
        return Dossier(past.goldens, barred, identity.host(), identity.quarantine_key, idle_seconds)

    def _start_server(self, house: House, models: Mapping[str, Ref[model.Message]]) -> Ref[server.Message]:
        names = [spec.name for spec in preloaded(self._config, self._specs)]
        drain = self._config.server.drain_seconds
        others = (self.admission, self.crash_loop, models)
        past = self._past
        return self._enlist(ServerActor.start(house, *others, names, drain, self._exit, past.state, past.panic))

    def _start_store(self) -> None:
        if self._store is not None:
            self._store.start(lambda error: self.journal.tell(journal.Noted("server", {"journal_error": error})))

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
    if problem := access.unguarded(config.server.host, config.keys):
        raise StartError(problem, MISCONFIGURED)
    os.umask(0o077)  # what lmx writes is for its user alone, also where the starter's umask is open
    descriptors.fill_standard()
    descriptors.raise_limit()
    logs.configure(config.logs)
    try:
        past = recover(Path(config.state_dir), strict=config.strict_state)
    except FolderTaken as error:
        raise StartError(str(error), TAKEN) from error
    except StateLost as error:
        raise StartError(str(error), STATE_LOST) from error
    leaving = watchdog.leave_within(LEAVE_SECONDS)
    try:
        return asyncio.run(_serve(config, specs, past, leaving))
    finally:
        leaving.cancel()
        logs.drain(LOG_SECONDS)


async def _serve(config: Config, specs: tuple[ModelSpec, ...], past: Past, leaving: threading.Timer) -> int:
    log = structlog.get_logger()
    daemon = Daemon(config, specs, past)
    daemon.start()
    notify = Notify.of(os.environ)
    guard = daemon.guard(notify)
    guard.start()
    try:
        site = await _listen(config, specs, daemon, guard)

        def stop(reason: str) -> None:
            site.close()
            notify.stopping(reason)
            daemon.server.tell(server.Stop(reason))

        try:
            signals.install(asyncio.get_running_loop(), stop)
            url = f"http://{access.authority(config.server.host, site.port)}"
            log.info("listening", url=url, models=[spec.name for spec in specs])
            notify.ready(f"It listens on {url}.")
            daemon.server.tell(server.Start())
            code = await daemon.exited
        finally:
            await site.stop()
    finally:
        leaving.start()
        guard.watch_only("loop")
        await asyncio.to_thread(daemon.stop)
        guard.stop()
    log.info("stopped", code=code)
    return code


async def _listen(
    config: Config, specs: tuple[ModelSpec, ...], daemon: Daemon, guard: watchdog.Watchdog
) -> application.Site:
    chaos = daemon.chaos()
    gateway = Gateway(
        admission=daemon.admission,
        closing=daemon.closing,
        responses=daemon.responses,
        journal=daemon.journal,
        crash_loop=daemon.crash_loop,
        physician=Physician(Path(config.state_dir), guard.lags),
        prove=lambda name: daemon.models[name].tell(model.Prove()),
        max_connections=descriptors.connections(),
        models=tuple(spec.name for spec in specs),
        keys=KeyRing(config.keys.inference, config.keys.admin),
        neighbours=_neighbours(config),
        aliases=daemon.aliases,
        fallbacks={name: means[1:] for name, means in names_of(config).aliases.items()},
        presets=names_of(config).presets,
        chaos=chaos.act if chaos else None,
        diagram=diagrams.render,
        started=int(time.time()),
        default_model=config.default_model or None,
        heartbeat_seconds=config.server.heartbeat_seconds,
        request_seconds=config.admission.request_seconds,
        fetch_images=config.server.fetch_images,
        read_journal=page_of(config),
    )
    host, port = config.server.host, config.server.port
    try:
        return await application.start(application.build(gateway), host, port, LAST_WORDS_SECONDS)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        what = f"is taken by {port_owner(port)}" if taken else f"cannot be used ({error.strerror})"
        place = access.authority(host, port)
        raise StartError(f"{place} {what}: choose another one with --host or --port.", TAKEN) from error


def _neighbours(config: Config) -> Neighbours:
    asks = config.server
    names = frozenset(name.lower() for name in asks.hosts)
    return Neighbours(address=asks.host, hosts=names, origins=frozenset(asks.cors_origins))
