"""What is known of a worker: in the journal for people, in Prometheus for graphs."""

from typing import Any

from prometheus_client import REGISTRY

from lmx.actors.facts import Facts, makes
from lmx.actors.messages import model
from lmx.actors.messages.journal import Fact
from lmx.machines import frames
from lmx.machines.types import ModelInfo
from tests.support.house import Actors, fake

Start = Any
INFO = ModelInfo(backend_version="1", context=64, slots=2, vocab=257, weights_bytes=5, chat_template=True)
MEMORY = frames.Memory(weights=100, kv=20, prefix_cache=30, process=200, transient=50)
BUSY = frames.Telemetry(
    memory=MEMORY,
    kv_tokens=12,
    cache_entries=3,
    disk_bytes=77,
    reused_tokens=30,
    computed_tokens=90,
    drafted=10,
    accepted=4,
    speculating=True,
    chunk=256,
)


class Noted(dict[str, Fact]):
    def __call__(self, **facts: Fact) -> None:
        self.update(facts)


def sample(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, (name, labels)
    return value


def test_what_a_worker_tells_is_shown_and_counted() -> None:
    """Shares for people, totals and bytes for Prometheus."""
    noted = Noted()
    Facts("f1", noted).telemetry(BUSY)
    assert (noted["cache_hit_share"], noted["acceptance"], noted["speculating"]) == (0.25, 0.4, True)
    assert (noted["memory_bytes"], noted["prefix_cache_bytes"], noted["disk_cache_bytes"]) == (200, 30, 77)
    assert sample("lmx_kv_tokens", model="f1") == 12
    assert sample("lmx_prefix_cache_bytes", model="f1") == 30
    assert sample("lmx_prefix_tokens_total", model="f1", kind="reused") == 30
    assert sample("lmx_speculation_tokens_total", model="f1", kind="accepted") == 4
    assert sample("lmx_worker_memory_bytes", model="f1", kind="transient") == 50


def test_counters_go_on_over_workers_and_gauges_fall() -> None:
    """A worker counts from its start, Prometheus from the daemon's; memory that is gone is not shown."""
    facts = Facts("f2", noted := Noted())
    facts.telemetry(BUSY)
    facts.telemetry(BUSY)
    assert sample("lmx_prefix_tokens_total", model="f2", kind="computed") == 90
    facts.gone("The worker was killed (SIGKILL).")
    assert sample("lmx_worker_memory_bytes", model="f2", kind="process") == 0
    assert (noted["memory_bytes"], noted["last_exit"]) == (None, "The worker was killed (SIGKILL).")
    facts.telemetry(BUSY)
    assert sample("lmx_prefix_tokens_total", model="f2", kind="computed") == 180


def test_nothing_is_shared_out_of_nothing() -> None:
    """Before the first prompt there is no share of hits."""
    Facts("f3", noted := Noted()).telemetry(frames.Telemetry())
    assert (noted["cache_hit_share"], noted["acceptance"]) == (None, None)


def test_a_model_says_what_it_makes() -> None:
    """Text, embeddings, scores: what can be asked of it."""
    assert makes(INFO) == "text"
    assert makes(ModelInfo(**{**_fields(INFO), "embedding": 64})) == "text, embeddings"
    assert makes(ModelInfo(**{**_fields(INFO), "generates": False, "scores": True})) == "scores"


def _fields(info: ModelInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


def test_the_journal_shows_it(start: Start) -> None:
    """What /admin/machines, /admin/models and `lmx ps` read."""
    house: Actors = start(fake("m"))
    house.load("m")
    house.models["m"].tell(model.Reported(1, BUSY))
    view = house.until(lambda: house.view("model:m"), lambda view: view.facts.get("kv_used") == 12)
    assert view.facts["cache_hit_share"] == 0.25
    assert str(view.facts["speculation"]).startswith("off")
    house.unload("m")
    assert house.view("model:m").facts["memory_bytes"] is None
