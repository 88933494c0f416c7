"""What is written below a field of a Struct. Python does not keep it, so it is read from the source."""

import ast
import inspect
from functools import cache

from msgspec import Struct


@cache
def of_fields(shape: type[Struct]) -> dict[str, str]:
    """By field, those that it inherits too; a field without a text is left out."""
    texts: dict[str, str] = {}
    for kind in reversed(shape.__mro__):
        if issubclass(kind, Struct) and kind is not Struct:
            texts |= _own(kind)
    return texts


def of_class(shape: type[Struct]) -> str:
    """Its own docstring, on one line; empty when it has none."""
    return " ".join((vars(shape).get("__doc__") or "").split())


def _own(shape: type[Struct]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(shape).lstrip()).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
