"""Structured output: what a text must match, compiled by llguidance into masks over the model's own tokens."""

from lmx.engine.constraint.errors import ConstraintError
from lmx.engine.constraint.grammar import Grammar
from lmx.engine.constraint.grammars import Grammars
from lmx.engine.constraint.walk import Walk

__all__ = ["ConstraintError", "Grammar", "Grammars", "Walk"]
