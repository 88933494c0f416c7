"""What is known of one model's worker: noted in the journal for people, counted for Prometheus."""

from pathlib import PurePath
from typing import Protocol

from msgspec.structs import asdict

from lmx.actors import metrics
from lmx.actors.messages.journal import Fact
from lmx.machines import frames
from lmx.machines.types import Adapter, ModelInfo, ModelSpec

NOTHING = frames.Telemetry()


class Note(Protocol):
    def __call__(self, **facts: Fact) -> None: ...


class Facts:
    """One worker after the other: counters go on across them, gauges fall to 0 when one is gone."""

    def __init__(self, name: str, note: Note) -> None:
        self._name = name
        self._note = note
        self._latest = NOTHING

    def wanted(self, spec: ModelSpec) -> None:
        """What the next worker is to be told."""
        self._note(backend=spec.backend, kv_type=spec.kv_type, kv_layout=spec.kv_layout, adapters=listed(spec.adapters))

    def started(self, pid: int) -> None:
        self._note(pid=pid, retry_at=None)

    def loaded(self, info: ModelInfo) -> None:
        self._note(
            version=info.backend_version,
            context=info.context,
            slots=info.slots,
            prefix=info.prefix,
            speculation=info.speculation,
            makes=makes(info),
            chat=info.chat_template,
            vision=info.sees,
            tools=bool(info.speech.calls),
            thinking=bool(info.speech.thoughts),
            digest=info.digest[:16],
        )

    def hear(self, report: frames.LoadProgress | frames.Idled | frames.Telemetry) -> None:
        match report:
            case frames.LoadProgress(fraction):
                self._note(load_progress=round(fraction, 3))
            case frames.Idled(kv_used):
                self._note(kv_used=kv_used)
            case frames.Telemetry():
                self.telemetry(report)

    def telemetry(self, now: frames.Telemetry) -> None:
        """Counters of the frame count from the worker's start."""
        before, self._latest = self._latest, now
        self._count(before, now)
        self._measure(now)
        metrics.DISK_CACHE_BYTES.labels(self._name).set(now.disk_bytes)
        self._note(
            kv_used=now.kv_tokens,
            memory_bytes=now.memory.process,
            device_bytes=now.memory.device_active,
            weights_bytes=now.memory.weights,
            kv_bytes=now.memory.kv,
            transient_bytes=now.memory.transient,
            prefix_cache_bytes=now.memory.prefix_cache,
            prefix_cache_entries=now.cache_entries,
            disk_cache_bytes=now.disk_bytes,
            cache_hit_share=share(now.reused_tokens, now.computed_tokens),
            acceptance=share(now.accepted, now.drafted - now.accepted),
            speculating=now.speculating,
            chunk=now.chunk,
            handles=now.handles,
            threads=now.threads,
        )

    def gone(self, why: str) -> None:
        """The worker has exited."""
        self._latest = NOTHING
        self._measure(NOTHING)
        self._note(pid=None, last_exit=why, memory_bytes=None, device_bytes=None, kv_used=None, kv_bytes=None)
        self._note(prefix_cache_bytes=None, prefix_cache_entries=None, speculating=None, chunk=None)
        self._note(weights_bytes=None, transient_bytes=None)

    def _count(self, before: frames.Telemetry, now: frames.Telemetry) -> None:
        prefix, guesses = metrics.PREFIX_TOKENS, metrics.SPECULATION_TOKENS
        prefix.labels(self._name, "reused").inc(max(0, now.reused_tokens - before.reused_tokens))
        prefix.labels(self._name, "computed").inc(max(0, now.computed_tokens - before.computed_tokens))
        guesses.labels(self._name, "drafted").inc(max(0, now.drafted - before.drafted))
        guesses.labels(self._name, "accepted").inc(max(0, now.accepted - before.accepted))

    def _measure(self, now: frames.Telemetry) -> None:
        metrics.KV_TOKENS.labels(self._name).set(now.kv_tokens)
        metrics.PREFIX_CACHE_BYTES.labels(self._name).set(now.memory.prefix_cache)
        for kind, size in asdict(now.memory).items():
            metrics.WORKER_MEMORY.labels(self._name, kind).set(size)


def share(part: int, rest: int) -> float | None:
    """Of both; None when there is nothing to speak of."""
    return round(part / (part + rest), 3) if part + rest > 0 else None


def listed(adapters: tuple[Adapter, ...]) -> str | None:
    """By the names of their files: `style.gguf, other.gguf=0.5`."""
    names = (
        PurePath(adapter.path).name + (f"={adapter.scale:g}" if adapter.scale != 1 else "") for adapter in adapters
    )
    return ", ".join(names) or None


def makes(info: ModelInfo) -> str:
    """What can be asked of the model."""
    kinds = (("text", info.generates), ("embeddings", info.embedding > 0), ("scores", info.scores))
    return ", ".join(kind for kind, on in kinds if on)
