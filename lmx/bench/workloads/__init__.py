"""Every workload by its name, in the order in which they run."""

from collections.abc import Mapping

from lmx.bench.workloads.base import Facts, Ratio, Workload
from lmx.bench.workloads.chats import Agents, Turns
from lmx.bench.workloads.constrained import Json
from lmx.bench.workloads.lookup import Lookup
from lmx.bench.workloads.overhead import Overhead
from lmx.bench.workloads.prefix import Prefix
from lmx.bench.workloads.restart import Restart
from lmx.bench.workloads.rows import Conc8, Conc16, Solo
from lmx.bench.workloads.stall import Stall
from lmx.bench.workloads.streams import Streams

__all__ = ["WORKLOADS", "Facts", "Ratio", "Workload"]

WORKLOADS: Mapping[str, type[Workload]] = {
    kind.name: kind
    for kind in (
        Solo, Conc8, Conc16, Stall, Prefix, Turns, Agents, Restart, Json, Lookup, Overhead, Streams,
    )
}  # fmt: skip
