"""Chat templates: Jinja in a sandbox, with what Hugging Face templates expect to find."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TemplateError(Exception):
    """The messages cannot be rendered; the sentence is for the client."""


def _refuse(message: str) -> NoReturn:
    raise TemplateError(f"The model's chat template refuses the messages: {message}")


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """One compiled template. Raises TemplateError when its source is no valid Jinja."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson  # Jinja's own escapes for HTML
        environment.globals.update(
            raise_exception=_refuse,
            strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            bos_token=bos,
            eos_token=eos,
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            text = f"The model's chat template is broken at line {error.lineno}: {error.message}"
            raise TemplateError(text) from error

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool = True) -> str:
        """The prompt's text, ready for the assistant's answer with `generation_prompt`."""
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=generation_prompt)
        except jinja2.TemplateError as error:
            raise TemplateError(f"The model's chat template fails on these messages: {error.message}") from error
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
            raise TemplateError(f"The model's chat template fails on these messages: {error}") from error
