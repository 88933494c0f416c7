"""Whether, how hard and how long a model is to think before it answers."""

from dataclasses import dataclass, field
from typing import Any

from lmx.engine.refusing import invalid, unsupported
from lmx.engine.template import ChatTemplate
from lmx.formats.thinking import stoppable
from lmx.machines.speech import Effort, Speech, Thinking
from lmx.machines.types import Chat

SWITCHES = ("enable_thinking", "thinking")
"""Variables with which templates switch thinking on and off."""
EFFORT = "reasoning_effort"
BUDGETS: dict[Effort, int | None] = {
    "minimal": 512,
    "low": 1024,
    "medium": 4096,
    "high": 16_384,
    "xhigh": None,
    "max": None,
}
"""Tokens of thoughts, for templates that know no effort."""
NEAREST: dict[Effort, Effort] = {"minimal": "low", "xhigh": "high", "max": "xhigh"}
"""For templates that do not name the effort; low, medium and high are what all of them mean."""


@dataclass(frozen=True)
class Mode:
    """`thinks`: thoughts may come before the answer. `variables` are the template's."""

    thinks: bool
    budget: int | None = None
    variables: dict[str, Any] = field(default_factory=dict)


def mode(chat: Chat, speech: Speech, template: ChatTemplate, *, quiet: bool) -> Mode:
    """`quiet`: a model that is not asked to think does not. Raises Refused."""
    asked = chat.thinking
    on = _wanted(chat)
    if on is False:
        return _off(speech, template)
    if not speech.thoughts:
        if on or asked.budget:
            raise unsupported("This model does not think: its chat template knows no thoughts.", "thinking")
        return Mode(thinks=False)
    if asked.budget == 0 and (off := off_variables(template)):
        return Mode(thinks=False, variables=off)
    if on is None:
        return _as_hard(not quiet, asked, template, {})
    return _as_hard(True, asked, template, {name: True for name in SWITCHES if name in template.variables})


def _as_hard(thinks: bool, asked: Thinking, template: ChatTemplate, variables: dict[str, Any]) -> Mode:
    """As hard as was asked for."""
    if asked.effort is None:
        return Mode(thinks, asked.budget, variables)
    if EFFORT in template.variables:
        return Mode(thinks, asked.budget, variables | {EFFORT: _known(asked.effort, template)})
    return Mode(thinks, BUDGETS[asked.effort] if asked.budget is None else asked.budget, variables)


def _wanted(chat: Chat) -> bool | None:
    """On, off, or as the template has it. What a client sets as a variable of the template counts too."""
    asked = chat.thinking
    effort = None if asked.effort is None or asked.hint else asked.effort != "none"
    said = [asked.enabled, effort, *(chat.variables.get(name) for name in SWITCHES)]
    wishes = {wish for wish in said if isinstance(wish, bool)}
    if len(wishes) > 1:
        raise invalid("The request both asks for thinking and switches it off.", "thinking")
    return next(iter(wishes), None)


def _off(speech: Speech, template: ChatTemplate) -> Mode:
    if not speech.thoughts:
        return Mode(thinks=False)
    variables = off_variables(template)
    if not variables:
        raise unsupported("This model always thinks: its chat template has no switch for it.", "thinking")
    return Mode(thinks=False, variables=variables)


def off_variables(template: ChatTemplate) -> dict[str, Any]:
    """What switches thinking off; {} where nothing does."""
    switches = {name: False for name in SWITCHES if name in template.variables}
    if not switches and EFFORT in template.variables and stoppable(template.source):
        return {EFFORT: "none"}
    return switches


def _known(effort: Effort, template: ChatTemplate) -> Effort:
    named = any(f"{quote}{effort}{quote}" in template.source for quote in "'\"")
    return effort if named or effort not in NEAREST else _known(NEAREST[effort], template)
