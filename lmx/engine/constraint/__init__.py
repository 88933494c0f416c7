"""Structured output: what a text must match, compiled by llguidance into masks over the model's own tokens."""

from lmx.engine.constraint.errors import ConstraintError
from lmx.engine.constraint.form import Form, Thought
from lmx.engine.constraint.grammar import Grammar
from lmx.engine.constraint.grammars import Grammars, Wanted
from lmx.engine.constraint.walk import Walk

__all__ = ["ConstraintError", "Form", "Grammar", "Grammars", "Thought", "Walk", "Wanted"]
