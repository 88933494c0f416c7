"""Which beginnings of prompts are computed already: a radix index over opaque handles, least recently used go first."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lmx.backends.base import Handle
from lmx.engine.radix import Array, Node, Tree, Walk, as_array
from lmx.machines.types import CacheReport

Kind = Literal["trim", "snapshot", "none"]

WARM, COLD, GONE = range(3)
MAX_ENTRIES = 4096
MAX_GONE, MAX_GONE_TOKENS = 1024, 1_000_000
WORTH_READING = 64
"""A file must save so many tokens more than what is in memory."""
MOST_READ = 16
"""And no more tokens than so many times those may have to be read."""
WORTH_TELLING = 16
"""Fewer common tokens than this are a template's opening, not a known prompt."""


@dataclass(frozen=True)
class Cold:
    """A handle that is a file of the disk tier."""

    key: str
    tokens: int
    nbytes: int = 0


@dataclass(eq=False, slots=True)
class Entry:
    """A known sequence: computed in memory (`warm`), as a file (`cold`), or both; with neither, it was evicted."""

    node: Node
    warm: Handle | None = None
    cold: Cold | None = None

    @property
    def handle(self) -> Handle:
        """What serves it best."""
        handle = self.warm if self.warm is not None else self.cold
        assert handle is not None
        return handle

    @property
    def tokens(self) -> Array:
        return self.node.tokens()

    @property
    def nbytes(self) -> int:
        return 0 if self.warm is None else self.warm.nbytes


@dataclass(frozen=True, slots=True)
class Match:
    """The first `tokens` tokens are in `entry.handle`."""

    entry: Entry
    tokens: int


def _ignore(_gone: Cold | Entry) -> None:
    pass


class PrefixCache:
    """Used by one thread.

    `trim`: a handle can be reused up to any of its tokens, so that one which is the beginning of another is redundant;
    `snapshot`: only as a whole. `drop` is told of every warm handle that leaves but by `take`, `forget` of every file
    that a longer one made redundant, `spill` of an entry that is about to be evicted and has no file: its last chance.
    """

    def __init__(
        self,
        kind: Kind,
        budget: int,
        drop: Callable[[Handle], None],
        forget: Callable[[Cold], None] = _ignore,
        spill: Callable[[Entry], None] = _ignore,
    ) -> None:
        self._kind = kind
        self._budget = budget
        self._drop = drop
        self._forget = forget
        self._spill = spill
        self._tree = Tree()
        self._entries: dict[Node, Entry] = {}
        self._recent: OrderedDict[Entry, None] = OrderedDict()
        self._gone: OrderedDict[Entry, None] = OrderedDict()
        self._gone_tokens = 0

    def __len__(self) -> int:
        return len(self._recent)

    def __iter__(self) -> Iterator[Entry]:
        """What is known, the least recently used first."""
        return iter(tuple(self._recent))

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._recent)

    def find(self, tokens: Sequence[int] | Array) -> Match | None:
        """The longest beginning that can be reused, at most all but the last token.

        A file must be worth reading: so much longer than what memory has.
        """
        if self._kind == "none" or len(tokens) < 2 or not self._recent:
            return None
        walk = self._tree.walk(as_array(tokens)[:-1])
        (warm, near), (cold, far) = self._found(walk, WARM), self._found(walk, COLD)
        if cold:
            entry = self._entries[far.nearest(COLD)]
            if cold - warm >= max(WORTH_READING, entry.node.depth // MOST_READ):
                return Match(entry, cold)
        return Match(self._entries[near.nearest(WARM)], warm) if warm else None

    def put(self, tokens: Sequence[int] | Array, handle: Handle) -> None:
        """`handle` covers the first handle.tokens of `tokens`; what it makes redundant goes, itself if it is that."""
        known = as_array(tokens)[: handle.tokens]
        if self._kind == "none" or not len(known) or len(known) < handle.tokens:
            self._let_go(handle)
            return
        tier = COLD if isinstance(handle, Cold) else WARM
        node = self._tree.insert(known)
        if self._kind == "trim" and node.below(tier):
            self._touch(self._entries[node.nearest(tier)])
            self._let_go(handle)
            self._tree.prune(node)
            return
        self._set(self._entry(node), tier, handle)
        if self._kind == "trim":
            for shorter in [above for above in node.up() if above is not node and above.marks[tier]]:
                self._clear(self._entries[shorter], tier)

    def use(self, match: Match) -> None:
        """It was of use: it goes last."""
        if match.entry in self._recent:
            self._touch(match.entry)

    def take(self, match: Match) -> Handle:
        """Take what serves the match out of the index, without dropping it."""
        entry, handle = match.entry, match.entry.handle
        tier = COLD if entry.warm is None else WARM
        self._unset(entry, tier)
        self._settle(entry)
        return handle

    def shrink(self, budget: int | None = None) -> None:
        """Evict the least recently used until the rest fits the budget, or another; what is in a file stays known."""
        limit = self._budget if budget is None else budget
        total = self.nbytes
        for entry in self:
            if total <= limit:
                break
            total -= entry.nbytes
            if entry.nbytes:
                self._evict(entry, WARM)
        while len(self._recent) > MAX_ENTRIES:
            oldest = next(iter(self._recent))
            self._evict(oldest, WARM)
            self._evict(oldest, COLD)

    def explain(self, tokens: Sequence[int] | Array, cached: int) -> CacheReport:
        """Why not more than `cached` tokens were known: to be asked before the match is taken."""
        size = len(tokens)
        if self._kind == "none":
            return CacheReport(cached, size, "unsupported")
        walk = self._tree.walk(as_array(tokens)[:-1])
        known, whole = self._known(walk)
        live = max(cached, self._reach(walk, WARM), self._reach(walk, COLD))
        if cached >= size - 1 or cached > known:
            return CacheReport(cached, size, "hit")
        if self._reach(walk, GONE) >= live + WORTH_TELLING:
            return CacheReport(cached, size, "evicted")
        if whole or known == size - 1:
            lost = live - cached
            return CacheReport(cached, size, "hit" if not lost else "evicted" if lost >= WORTH_READING else "short")
        if known < WORTH_TELLING:
            return CacheReport(cached, size, "short" if known else "first_use", known or None)
        return CacheReport(cached, size, "changed", known)

    # --- what of a walk is there -------------------------------------------------------------------------------------

    def _reach(self, walk: Walk, tier: int) -> int:
        """How many tokens of the walk this tier can give."""
        return self._found(walk, tier)[0]

    def _found(self, walk: Walk, tier: int) -> tuple[int, Node]:
        if self._kind == "snapshot":
            return next(((n.depth, n) for n in walk.whole.up() if n.marks[tier]), (0, self._tree.root))
        return _shared(walk, (tier,))

    def _known(self, walk: Walk) -> tuple[int, bool]:
        """How much any known prompt has in common, and whether one of them wholly."""
        shared, node = _shared(walk, (WARM, COLD))
        return shared, node.depth == shared and (node.marks[WARM] or node.marks[COLD])

    # --- entries -----------------------------------------------------------------------------------------------------

    def _entry(self, node: Node) -> Entry:
        return self._entries.setdefault(node, Entry(node))

    def _touch(self, entry: Entry) -> None:
        self._recent[entry] = None
        self._recent.move_to_end(entry)

    def _set(self, entry: Entry, tier: int, handle: Handle) -> None:
        if isinstance(handle, Cold):
            entry.cold = handle
        else:
            if entry.warm is not None and entry.warm is not handle:
                self._drop(entry.warm)
            entry.warm = handle
        self._bury(entry, gone=False)
        entry.node.mark(tier, on=True)
        self._touch(entry)

    def _unset(self, entry: Entry, tier: int) -> None:
        if tier == WARM:
            entry.warm = None
        else:
            entry.cold = None
        entry.node.mark(tier, on=False)

    def _clear(self, entry: Entry, tier: int) -> None:
        """A longer one does the same."""
        handle = entry.warm if tier == WARM else entry.cold
        assert handle is not None
        self._unset(entry, tier)
        self._settle(entry)
        self._let_go(handle)

    def _evict(self, entry: Entry, tier: int) -> None:
        handle = entry.warm if tier == WARM else entry.cold
        if handle is None:
            return
        if entry.cold is None:
            self._spill(entry)
        self._unset(entry, tier)
        self._bury(entry, gone=entry.warm is None and entry.cold is None)
        self._settle(entry)
        if tier == WARM:
            self._drop(handle)

    def _let_go(self, handle: Handle) -> None:
        if isinstance(handle, Cold):
            self._forget(handle)
        else:
            self._drop(handle)

    def _settle(self, entry: Entry) -> None:
        """After something was taken away from it."""
        if entry.warm is not None or entry.cold is not None:
            return
        self._recent.pop(entry, None)
        if not entry.node.marks[GONE]:
            self._entries.pop(entry.node, None)
            self._tree.prune(entry.node)

    def _bury(self, entry: Entry, *, gone: bool) -> None:
        """Remember, or no longer, that it was known once; not more than so many."""
        if entry.node.marks[GONE] == gone:
            return
        entry.node.mark(GONE, on=gone)
        self._gone_tokens += entry.node.depth if gone else -entry.node.depth
        if not gone:
            del self._gone[entry]
            return
        self._gone[entry] = None
        while len(self._gone) > MAX_GONE or self._gone_tokens > MAX_GONE_TOKENS:
            oldest = next(iter(self._gone))
            self._bury(oldest, gone=False)
            self._settle(oldest)


def _shared(walk: Walk, tiers: tuple[int, ...]) -> tuple[int, Node]:
    """The deepest place of the walk at or below which one of the tiers has something, and the node there."""
    for node in walk.last.up():
        if any(node.holds[tier] for tier in tiers):
            return min(walk.shared, node.depth), node
    return 0, walk.last
