"""One running sequence, and how the prompt tokens of a step are shared out."""

from collections.abc import Iterable

from lmx.backends.base import SeqSpec
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.sampling import Sampler


class Row:
    """A sequence in its slot: `done` of its tokens are in the KV cache, `written` were drawn."""

    def __init__(self, spec: SeqSpec, slot: int, sampler: Sampler) -> None:
        self.spec = spec
        self.slot = slot
        self.sampler = sampler
        self.done = 0
        self.written = 0
        self.token = -1

    @property
    def remaining(self) -> int:
        """Prompt tokens still to be computed; 0 while it decodes."""
        return max(0, len(self.spec.prompt) - self.done)

    def part(self, tokens: int) -> Part:
        """Its next `tokens` prompt tokens, or the last token drawn."""
        if not self.remaining:
            return Part(self.slot, self.done, (self.token,), logits=True)
        last = tokens == self.remaining
        return Part(self.slot, self.done, self.spec.prompt[self.done : self.done + tokens], logits=last)


def share(rows: Iterable[Row], budget: int) -> dict[Row, int]:
    """Prompt tokens for each row: the shortest remainder goes first, a quarter is kept for the oldest row.

    `rows` come oldest first. Two rows at most get tokens, none starves.
    """
    waiting = [row for row in rows if row.remaining]
    if not waiting or budget <= 0:
        return {}
    shortest = min(waiting, key=lambda row: row.remaining)
    others = [row for row in waiting if row is not shortest]
    if not others:
        return {shortest: min(budget, shortest.remaining)}
    other = others[0]
    kept = min(budget // 4, other.remaining)
    first = min(budget - kept, shortest.remaining)
    second = min(budget - first, other.remaining)
    return {row: tokens for row, tokens in ((shortest, first), (other, second)) if tokens}
