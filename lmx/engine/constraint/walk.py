"""One sequence's way through a grammar: base.Mask."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

import numpy as np
from llguidance import LLMatcher

from lmx.engine.constraint.vocabulary import WORD, Vocabulary, Words


def next_words(matcher: LLMatcher, vocabulary: Vocabulary) -> Words:
    """What may come next. Lets other threads run meanwhile."""
    words = np.empty_like(vocabulary.writable)
    matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
    words &= vocabulary.writable
    return words


class Walk:
    """Once the text is complete, only end tokens are allowed; one of them, where the grammar accepts, completes it.

    `accept` leaves the work to another thread, which does it during the forward pass; `allowed` waits for it.
    `fault` is certain after `allowed`.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        first: Words,
        vocabulary: Vocabulary,
        executor: Executor,
        stepped: Callable[[bool], None],
    ) -> None:
        """`stepped` is told of every token whether all was well."""
        self._matcher = matcher
        self._words = first
        self._vocabulary = vocabulary
        self._executor = executor
        self._stepped = stepped
        self._pending: Future[Words] | None = None
        self._over = False
        self._fault = ""

    @property
    def fault(self) -> str:
        return self._fault

    def allowed(self) -> Words:
        if self._pending is not None:
            self._words = self._pending.result()
            self._pending = None
        return self._words

    def accept(self, token: int) -> None:
        words = self.allowed()
        if self._over:
            return
        if token in self._vocabulary.ends:
            ending = bool(words[token // WORD] >> np.uint32(token % WORD) & 1)
            self._words = self._end("" if ending else "the text ended where the constraint does not let it end")
        else:
            self._pending = self._executor.submit(self._advance, token)

    def take_up(self, tokens: Sequence[int]) -> None:
        """The text begins with these, none of which ends it; called before anything else."""
        if tokens:
            self._pending = self._executor.submit(self._advance, *tokens)

    def _advance(self, *tokens: int) -> Words:
        self._matcher.consume_tokens(list(tokens))
        words = next_words(self._matcher, self._vocabulary)
        problem = self._matcher.get_error().partition("\n")[0] if self._matcher.is_error() else ""
        if not problem and not words.any():
            problem = "it allows no token that the model could write"
        self._stepped(not problem)
        return self._end(f"the constraint cannot be followed any further: {problem}") if problem else words

    def _end(self, fault: str) -> Words:
        self._over = True
        self._fault = fault
        return self._vocabulary.end_words
