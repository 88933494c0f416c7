"""A compiled constraint: each sequence that obeys it gets a Walk of its own."""

from collections.abc import Sequence
from concurrent.futures import Executor

from llguidance import LLMatcher, LLParserLimits

from lmx.engine.constraint.vocabulary import Vocabulary
from lmx.engine.constraint.walk import Walk, next_words

JSON_SYMBOLS, SYMBOLS = 40_000, 10_000
"""How large a grammar may be. The square of what may come next at one place takes time: of a schema that is little."""
TOKENS = 20_000
"""After so many, a grammar is compiled again: all walks share its lexer, whose states only ever become more."""


class Unusable(Exception):
    """llguidance does not take the grammar; the message is its own."""


class Grammar:
    def __init__(self, source: str, symbols: int, vocabulary: Vocabulary, executor: Executor) -> None:
        """Compile `source` (llguidance's own form) of at most so many symbols. Raises Unusable."""
        self._vocabulary = vocabulary
        self._executor = executor
        self._walked = 0
        self._start = LLMatcher(vocabulary.tokenizer, source, log_level=0, limits=_limits(symbols))
        self._raise_problems()
        self._first = next_words(self._start, vocabulary)
        self._raise_problems()
        if not self._first.any():
            raise Unusable("NoExtension")
        self._first.flags.writeable = False

    def _raise_problems(self) -> None:
        if problem := self._start.get_error():
            raise Unusable(problem)
        if warnings := self._start.get_grammar_warnings():
            raise Unusable(warnings[0])

    @property
    def worn(self) -> bool:
        """It should be compiled anew for further sequences."""
        return self._walked > TOKENS

    def mask(self, written: Sequence[int] = ()) -> Walk:
        """For one sequence, whose text begins with `written`. Takes microseconds."""
        walk = Walk(self._start.deep_copy(), self._first, self._vocabulary, self._executor, self._step)
        walk.take_up(written)
        return walk

    def _step(self, sound: bool) -> None:
        self._walked += 1 if sound else TOKENS + 1


def _limits(symbols: int) -> LLParserLimits:
    """They bound memory (a lexer's state takes about 1 kB), and one mask to a fraction of a second."""
    return LLParserLimits(
        max_items_in_row=2000,
        initial_lexer_fuel=400_000,
        step_lexer_fuel=200_000,
        step_max_items=20_000,
        max_lexer_states=100_000,
        max_grammar_size=symbols,
        verbose_errors=False,
    )
