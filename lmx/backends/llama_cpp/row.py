"""One running sequence, and how the prompt tokens of a step are shared out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from lmx.backends.base import Event, Logprob, Prefilled, SeqSpec, Token
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.llama_cpp.context import TOLD
from lmx.backends.pictures import Tile
from lmx.backends.sampling import Logits, Sampler, prompt_logprob


class Row:
    """A sequence in its slot: `done` of its `tokens` are in the KV cache, `cached` of them from earlier work."""

    def __init__(
        self, spec: SeqSpec, slot: int, sampler: Sampler, *, cached: int = 0, stops: Sequence[int] = ()
    ) -> None:
        """`stops`: lengths of the prompt at which a step has to end."""
        self.spec = spec
        self.slot = slot
        self.cached = self.done = cached
        self.tokens = list(spec.prompt)
        """The prompt and what was written."""
        self.guesses: list[int] = []
        """What may follow `tokens`: computed together with the last one of them."""
        self.ended = False
        """Nothing is left to do but to release it."""
        self._sampler = sampler
        self._checkpoints = frozenset(stops)
        images = [at for at, token in enumerate(spec.prompt) if token in spec.tiles] if spec.tiles else []
        self._stops = sorted({*(stop for stop in (*stops, *images) if stop > cached), len(spec.prompt)})

    @property
    def remaining(self) -> int:
        """Prompt tokens still to be computed; 0 while it decodes."""
        return max(0, len(self.spec.prompt) - self.done)

    @property
    def readable(self) -> int:
        """Prompt tokens that one step may compute: none while an image is next."""
        if self.tile is not None:
            return 0
        most = next((stop for stop in self._stops if stop > self.done), self.done) - self.done
        return min(most, TOLD // 2) if self.spec.prompt_logprobs else most

    @property
    def tile(self) -> Tile | None:
        """The image whose rows are to be read next."""
        return self.spec.tiles.get(self.spec.prompt[self.done]) if self.remaining and self.spec.tiles else None

    @property
    def at_stop(self) -> bool:
        """It has just read as far as one of the given lengths."""
        return self.done in self._checkpoints

    def part(self, tokens: int) -> Part:
        """Its next `tokens` prompt tokens, or the last token drawn and the guesses."""
        if not self.remaining:
            ahead = (self.tokens[-1], *self.guesses)
            return Part(self.slot, self.done, ahead, len(ahead))
        end = self.done + tokens
        wanted = tokens if self.spec.prompt_logprobs else int(tokens == self.remaining)
        return Part(self.slot, self.done, self.spec.prompt[self.done : end], wanted)

    def looked(self, tile: Tile) -> Prefilled:
        """The rows of `tile` are computed."""
        self.done += len(tile.ids)
        return Prefilled(self.spec.id, self.done, self.cached)

    def computed(self, part: Part, logits: Callable[[int], Logits]) -> Iterator[Event]:
        """What came of `part`; logits(i) are those after its i-th token. Raises what the sampler raises."""
        if not self.remaining:
            yield from self._wrote(part, logits)
            return
        self.done += len(part.tokens)
        yield Prefilled(self.spec.id, self.done, self.cached, self._told(part, logits))
        if self.remaining:
            return
        if self.spec.max_tokens:
            yield self._draw(logits(len(part.tokens) - 1))
        else:
            self.ended = True

    def _wrote(self, part: Part, logits: Callable[[int], Logits]) -> Iterator[Token]:
        """A token after the last one, and after each guess that was right."""
        for place, following in enumerate((*part.tokens[1:], None)):
            self.done += 1
            token = self._draw(logits(place))
            yield token
            if self.ended or token.token != following:
                return

    def _draw(self, logits: Logits) -> Token:
        choice = self._sampler.next(logits)
        self.tokens.append(choice.token)
        reason: Literal["stop", "length"] | None = None
        if choice.token in self.spec.stop_ids:
            reason = "stop"
        elif len(self.tokens) - len(self.spec.prompt) == self.spec.max_tokens:
            reason = "length"
        self.ended = reason is not None
        return Token(self.spec.id, choice.token, reason, choice.logprob)

    def _told(self, part: Part, logits: Callable[[int], Logits]) -> tuple[Logprob, ...]:
        """How likely the prompt's tokens up to the one after `part` were: nothing tells of the first one."""
        if not self.spec.prompt_logprobs:
            return ()
        prompt, count = self.spec.prompt, self.spec.logprobs or 0
        first = [Logprob(prompt[0], None)] if part.start == 0 else []
        following = prompt[part.start + 1 : part.start + 1 + len(part.tokens)]
        return (*first, *(prompt_logprob(logits(place), token, count) for place, token in enumerate(following)))


def share(rows: Iterable[Row], budget: int) -> dict[Row, int]:
    """Prompt tokens for each row: the shortest remainders go first, a quarter is kept for the oldest row.

    `rows` come oldest first. None starves.
    """
    waiting = [row for row in rows if row.remaining]
    if not waiting or budget <= 0:
        return {}
    oldest, by_length = waiting[0], sorted(waiting, key=lambda row: row.remaining)
    kept = min(budget // 4, oldest.readable) if oldest is not by_length[0] else 0
    left = budget - kept
    amounts: dict[Row, int] = {}
    for row in by_length:
        own = kept if row is oldest else 0
        tokens = min(left + own, row.readable)
        left -= max(0, tokens - own)
        if tokens:
            amounts[row] = tokens
    return amounts
