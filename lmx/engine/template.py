"""Chat templates: Jinja in a sandbox, with what Hugging Face templates expect to find."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDER_SECONDS = 2.0
"""Of this thread's CPU time; a busy machine is no template's fault."""
EACH = "lmx_each"
NO_VARIABLES: Mapping[str, Any] = {}
RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
"""Variables that are the server's own."""


class TemplateError(Exception):
    """The messages cannot be rendered; the sentence is for the client."""


def _refuse(message: str) -> NoReturn:
    raise TemplateError(f"The model's chat template refuses the messages: {message}")


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _Generator(CodeGenerator):
    """Leads what each loop iterates over through the filter EACH."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802 - Jinja's name
        for loop in list(node.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, EACH, [], [], None, None, lineno=loop.lineno)
        super().visit_Template(node, frame)


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator


class ChatTemplate:
    """One compiled template, for one thread. Raises TemplateError when its source is no valid Jinja."""

    def __init__(self, source: str, *, bos: str, eos: str, name: str = "The model's chat template") -> None:
        """`name` is what errors call it."""
        self.source = source
        self._until = 0.0
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.filters["tojson"] = _tojson  # Jinja's own escapes for HTML
        environment.filters[EACH] = self._each
        environment.globals.update(
            raise_exception=_refuse,
            strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            bos_token=bos,
            eos_token=eos,
        )
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{name} is broken at line {error.lineno}: {error.message}") from error

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        variables: Mapping[str, Any] = NO_VARIABLES,
        *,
        generation_prompt: bool = True,
    ) -> str:
        """The prompt's text, ready for the assistant's answer with `generation_prompt`."""
        self._until = time.thread_time() + RENDER_SECONDS
        own = {"messages": list(messages), "add_generation_prompt": generation_prompt}
        try:
            return self._template.render({**variables, **own})
        except jinja2.TemplateError as error:
            raise TemplateError(f"The model's chat template fails on these messages: {error.message}") from error
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
            raise TemplateError(f"The model's chat template fails on these messages: {error}") from error

    def _each(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, while there is time."""
        for item in items:
            if time.thread_time() > self._until:
                raise TemplateError(f"The model's chat template ran for more than {RENDER_SECONDS:g} s.")
            yield item
