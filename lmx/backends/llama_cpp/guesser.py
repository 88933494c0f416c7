"""What may follow the tokens of running sequences, computed beside the last of them and checked like any other."""

from collections.abc import Callable, Sequence
from itertools import islice

from lmx.backends.base import LoadError
from lmx.backends.gate import Gate
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.llama_cpp.context import GUESSING, Context
from lmx.backends.llama_cpp.draft import DraftModel, Wanted
from lmx.backends.llama_cpp.model import Model
from lmx.backends.llama_cpp.row import Row
from lmx.backends.lookup import Lookup
from lmx.machines.types import ModelSpec


class Guesser:
    """By a draft model, or by looking up what followed the last time."""

    def __init__(self, draft_tokens: int, length: int, draft: DraftModel | None) -> None:
        self.gate = Gate(draft_tokens)
        self._draft_tokens = draft_tokens
        self._length = length
        self._draft = draft
        self._lookups: dict[int, Lookup] = {}

    @property
    def weights_bytes(self) -> int:
        return self._draft.weights_bytes if self._draft else 0

    @property
    def kv_bytes(self) -> int:
        return self._draft.kv_bytes if self._draft else 0

    def guess(self, rows: Sequence[Row]) -> None:
        """Give each of `rows`, which are all that decode now, its guesses for this step."""
        for row in rows:
            row.guesses = []
        guessable = [row for row in rows if not (row.spec.audit or row.spec.tiles)] if len(rows) <= GUESSING else []
        if self._draft is None:
            for row in guessable:
                row.guesses = self._looked_up(row, len(rows))
        elif count := self.gate.want(len(rows)) if guessable else 0:
            wanted = {row.slot: Wanted(row.tokens, min(count, self._room(row))) for row in guessable}
            proposed = self._draft.propose(wanted)
            for row in guessable:
                row.guesses = proposed.get(row.slot, [])

    def observe(self, work: Sequence[tuple[Row, Part]], seconds: float) -> None:
        """A step computed `work` in so many seconds, guesses included."""
        written = [(row, part) for row, part in work if part.start >= len(row.spec.prompt)]
        if not written:
            return
        drafted = sum(len(part.tokens) - 1 for _, part in written)
        accepted = sum(max(0, row.done - part.start - 1) for row, part in written)
        read_prompts = len(written) < len(work)
        self.gate.observe(len(written), drafted, accepted, None if read_prompts else seconds)

    def forget(self, row: Row) -> None:
        """Its sequence is gone."""
        self._lookups.pop(row.spec.id, None)

    def moved(self, source: int, slot: int) -> None:
        """A sequence has another slot now."""
        if self._draft:
            self._draft.forget(source)
            self._draft.forget(slot)

    def close(self) -> None:
        if self._draft:
            self._draft.close()

    def _looked_up(self, row: Row, rows: int) -> list[int]:
        lookup = self._lookups.get(row.spec.id)
        if lookup is None:
            lookup = self._lookups[row.spec.id] = Lookup(self._draft_tokens)
        lookup.extend(list(islice(row.tokens, len(lookup), None)))
        return lookup.propose(min(self.gate.want(rows, lookup), self._room(row)))

    def _room(self, row: Row) -> int:
        """How many guesses could all be right: its last token is none, and the context has an end."""
        left = row.spec.max_tokens - (len(row.tokens) - len(row.spec.prompt)) - 1
        return max(0, min(left, self._length - row.done - 1))


def guesser_for(
    model: Model, spec: ModelSpec, context: Context, progress: Callable[[float], bool]
) -> tuple[Guesser | None, str]:
    """As `spec` wants it and the model can; and what became of it, as Info.speculation says it. Raises LoadError."""
    if spec.speculation == "off":
        return None, "off: switched off"
    if not context.trims:
        return None, "off: this kind of model cannot take tokens back"
    if spec.speculation == "lookup" or (spec.speculation == "auto" and not spec.draft):
        return Guesser(spec.draft_tokens, context.length, None), "lookup"
    if not spec.draft:
        raise LoadError(f"{spec.path}: speculation by a draft model needs one; set draft to its path")
    return Guesser(spec.draft_tokens, context.length, DraftModel(model, spec, progress)), "draft"
