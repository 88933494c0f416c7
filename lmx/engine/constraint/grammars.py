"""Compiles constraints, each once, within a time limit, on a stack that is deep enough for what the limits let in."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from lmx.backends.base import Info
from lmx.engine.constraint.errors import in_words, refused
from lmx.engine.constraint.form import Form, form_source
from lmx.engine.constraint.grammar import JSON_SYMBOLS, SYMBOLS, Grammar, Unusable
from lmx.engine.constraint.source import source
from lmx.engine.constraint.vocabulary import Vocabulary
from lmx.machines.types import Constraint

Wanted = Constraint | Form

SECONDS = 2.0
KEPT = 32
STACK = 256 * 1024 * 1024
"""Of the compiling thread; llguidance takes up to 10 kB for each of limits.PARTS. Untouched memory costs nothing."""


class Grammars:
    """Used by one thread. Nothing is built before the first constraint."""

    def __init__(self, info: Info, encode: Callable[[str], list[int]]) -> None:
        """`encode` writes text without control tokens, and is thread-safe."""
        self._info = info
        self._encode = encode
        self._kept: OrderedDict[Wanted, Grammar] = OrderedDict()

    def compile(self, constraint: Wanted) -> Grammar:
        """The constraint as a Grammar, at once if it was seen lately. Raises ConstraintError."""
        grammar = self._kept.pop(constraint, None)
        if grammar is None or grammar.worn:
            grammar = self._compiled(constraint)
        self._kept[constraint] = grammar
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return grammar

    def _compiled(self, constraint: Wanted) -> Grammar:
        if not self._vocabulary.ends:
            raise refused(_blamed(constraint), "this model has no end token, so it cannot be constrained.")
        work = self._compiler.submit(self._compile, constraint)
        try:
            return work.result(SECONDS)
        except TimeoutError as error:
            work.cancel()
            raise refused(_blamed(constraint), f"it could not be compiled within {SECONDS:g} seconds.") from error

    def _compile(self, constraint: Wanted) -> Grammar:
        try:
            if isinstance(constraint, Form):
                return Grammar(form_source(constraint), JSON_SYMBOLS, self._vocabulary, self._walker)
            symbols = JSON_SYMBOLS if constraint.kind in {"json_object", "json_schema"} else SYMBOLS
            return Grammar(source(constraint), symbols, self._vocabulary, self._walker)
        except Unusable as error:
            blamed = _blamed(constraint)
            raise refused(blamed, in_words(blamed, str(error))) from error

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._info, self._encode)

    @cached_property
    def _walker(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "masks")

    @cached_property
    def _compiler(self) -> ThreadPoolExecutor:
        """One thread: however many hostile grammars come, they take one core."""
        # Where RUST_BACKTRACE is set, llguidance collects one at every level of a bad grammar: that takes minutes.
        os.environ["RUST_LIB_BACKTRACE"] = "0"
        compiler = ThreadPoolExecutor(1, "grammars")
        before = threading.stack_size(STACK)
        try:
            compiler.submit(int).result()  # a pool starts its thread with the first task
        finally:
            threading.stack_size(before)
        return compiler


def _blamed(wanted: Wanted) -> Constraint | None:
    return wanted.blamed if isinstance(wanted, Form) else wanted
