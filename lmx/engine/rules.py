"""What the text of a generation is held to: its form, and how long it may think."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lmx.backends.base import Info, Mask
from lmx.engine.constraint import ConstraintError, Form, Grammar, Grammars, Thought
from lmx.engine.dialect import Dialect
from lmx.engine.refusing import Refused, invalid, unconstrainable, unsupported
from lmx.engine.thoughts import Budget, Thoughts
from lmx.formats import table
from lmx.formats.base import Function, Unforceable
from lmx.formats.thinking import HABITS, Habit
from lmx.machines import limits
from lmx.machines.speech import Calling, Speech, function_of
from lmx.machines.types import Chat, Constraint, Generation

FREELY = Calling()
ANYTHING = Constraint("regex", "(?s:.*)")
WORD = "x"
"""An answer's beginning, as far as a tokenizer is concerned."""


@dataclass(frozen=True)
class Rules:
    """For one sequence.

    habit:     how the model marks thoughts; None = it has none, or none that anybody reads.
    budget:    tokens of thoughts, after which `ending` is forced; None = as many as it likes.
    functions: it ends as soon as one of these was called; () = it ends by itself.
    """

    grammar: Grammar | None = None
    speech: Speech | None = None
    budget: int | None = None
    ending: tuple[int, ...] = ()
    functions: tuple[Function, ...] = ()

    def thoughts(self, token_bytes: Sequence[bytes]) -> Thoughts | None:
        """Of a text that is about to begin."""
        habit = _habit(self.speech)
        return Thoughts(habit, token_bytes, opened=self.speech.opened) if habit and self.speech else None

    def mask(self, written: Sequence[int], info: Info) -> Mask | None:
        """For a text that begins with `written`."""
        within = self.grammar.mask(written) if self.grammar is not None else None
        thoughts = self.thoughts(info.token_bytes) if self.budget is not None else None
        if thoughts is None or self.budget is None:
            return within
        budget = Budget(thoughts, self.budget, self.ending, info.vocab, within)
        for token in written:
            budget.follow(token)
        return budget


NO_RULES = Rules()


@dataclass(frozen=True)
class Ruling:
    """Makes the rules of one model's generations."""

    dialect: Dialect | None
    grammars: Grammars
    encode: Callable[[str], list[int]]
    """With control tokens."""

    def rules(self, generation: Generation, prompt: str) -> Rules:
        """`prompt` is a chat's rendered text. Raises Refused."""
        if not isinstance(generation.prompt, Chat) or self.dialect is None:
            wanted = generation.constraint
            return Rules(self._compiled(generation, wanted)) if wanted is not None else NO_RULES
        return self._of_chat(generation, generation.prompt, self.dialect, prompt)

    def _of_chat(self, generation: Generation, chat: Chat, dialect: Dialect, prompt: str) -> Rules:
        opened = table.opened(dialect.speech, prompt)
        speech = Speech(dialect.speech.calls, dialect.speech.thoughts, opened, dialect.speech.switch)
        mode = dialect.mode(chat)
        habit = _habit(speech)
        wanted = _wanted(generation, chat, speech, prompt, thinks=mode.thinks or opened)
        return Rules(
            grammar=self._compiled(generation, wanted) if wanted is not None else None,
            speech=speech,
            budget=mode.budget if habit is not None else None,
            ending=self._ending(habit, prompt, wanted) if habit is not None and mode.budget is not None else (),
            functions=_awaited(generation, chat, wanted),
        )

    def _ending(self, habit: Habit, prompt: str, wanted: Constraint | Form | None) -> tuple[int, ...]:
        """Tokens that end a thought; what an answer begins with is left to the form, where there is one."""
        _, header = _after_thought(habit, prompt)
        text = habit.forced_close if wanted is None else habit.forced_close.removesuffix(header)
        return tuple(self._before_a_word(text))

    def _before_a_word(self, text: str) -> list[int]:
        """Tokenizers look ahead: a line end before a word is often another token than one at a text's end."""
        whole, word = self.encode(text + WORD), self.encode(WORD)
        return whole[: -len(word)] if whole[-len(word) :] == word else self.encode(text)

    def _compiled(self, generation: Generation, wanted: Constraint | Form) -> Grammar:
        if generation.ignore_eos:
            raise unconstrainable(
                "'ignore_eos' cannot be used with a constraint: what it describes has an end.", "ignore_eos"
            )
        try:
            return self.grammars.compile(wanted)
        except ConstraintError as error:
            raise self._blamed(error, wanted, generation) from error

    def _blamed(self, error: ConstraintError, wanted: Constraint | Form, generation: Generation) -> Refused:
        """The one function, or the constraint, that cannot be compiled on its own either."""
        if isinstance(wanted, Form) and wanted.calls and isinstance(generation.prompt, Chat):
            for index, tool in enumerate(generation.prompt.tools):
                try:
                    self.grammars.compile(_schema(function_of(tool)))
                except ConstraintError as found:
                    param = f"tools[{index}].function.parameters"
                    return unconstrainable(found.message.replace("response_format", param), param)
            if wanted.constraint is not None:
                try:
                    self.grammars.compile(wanted.constraint)
                except ConstraintError as found:
                    return unconstrainable(found.message, found.param)
        return unconstrainable(error.message, error.param)


def _wanted(
    generation: Generation, chat: Chat, speech: Speech, prompt: str, *, thinks: bool
) -> Constraint | Form | None:
    """The form of the whole text; None where anything goes. Raises Refused."""
    calling = generation.calling or FREELY
    constraint = generation.constraint
    calls = _calls(chat, calling, speech, always=constraint is not None)
    format = table.FORMATS.get(speech.calls)
    begins, leads = (format.begins, format.leads) if format is not None else ((), False)
    if not calls and constraint is None:
        return None
    habit = _habit(speech)
    then, header = _after_thought(habit, prompt)
    thought = Thought(habit.open, habit.close, speech.opened, then) if habit is not None and thinks else None
    if calling.required:
        return Form(thought, calls, begins)
    if constraint is None and header:  # calls and answers begin alike, so each is told from the other by its header
        constraint = ANYTHING
    if constraint is None:
        return Form(thought, calls, begins, "freely" if calling.parallel else "last", leads=leads)
    if not calls and thought is None and not header:
        return constraint
    return Form(thought, calls, begins, constraint=constraint, header=header)


def _calls(chat: Chat, calling: Calling, speech: Speech, *, always: bool) -> str:
    """The grammar of calls that are held to something; "" where they come as they like.

    `always`: they have to be told from a text that is held to something itself. Raises Refused.
    """
    functions = _callable(chat, calling)
    strict = any(function.get("strict") is True for function in functions)
    if not functions or not (calling.required or calling.only or strict or always):
        return ""
    for index, function in enumerate(map(function_of, chat.tools)):
        if function in functions:
            _check(function.get("parameters") or {}, f"tools[{index}].function.parameters")
    try:
        return table.FORMATS[speech.calls].grammar(functions, parallel=calling.parallel)
    except Unforceable as error:
        raise _unforceable(calling, str(error), strict=strict) from error


def _callable(chat: Chat, calling: Calling) -> list[Function]:
    functions = [function_of(tool) for tool in chat.tools]
    names = {str(function["name"]) for function in functions}
    if missing := [name for name in calling.only if name not in names]:
        raise invalid(f"There is no function '{missing[0]}' among 'tools'.", "tool_choice")
    if calling.required and not functions:
        raise invalid("A call is required, but there are no functions in 'tools'.", "tool_choice")
    return [function for function in functions if not calling.only or function["name"] in calling.only]


def _unforceable(calling: Calling, reason: str, *, strict: bool) -> Refused:
    reason = reason.rstrip(".")
    if strict and not (calling.required or calling.only):
        text = "This model's calls cannot be held to a schema while it may also answer"
        return unsupported(f"{text}: {reason}. Leave 'strict' out.", "tools")
    return unsupported(f"This model's way to call functions cannot be enforced: {reason}.", "tool_choice")


def _awaited(generation: Generation, chat: Chat, wanted: Constraint | Form | None) -> tuple[Function, ...]:
    """Functions whose first call is the last, where no grammar sees to that."""
    calling = generation.calling or FREELY
    if calling.parallel or (isinstance(wanted, Form) and wanted.calls):
        return ()
    return tuple(map(function_of, chat.tools))


def _after_thought(habit: Habit | None, prompt: str) -> tuple[str, str]:
    """What follows a thought in any case, and what an answer begins with: the prompt may end with its beginning."""
    tail = habit.forced_close.partition(habit.close)[2] if habit is not None else ""
    if not tail.strip():
        return "", ""
    size = next((size for size in range(len(tail), 0, -1) if prompt.endswith(tail[:size])), 0)
    return tail[:size], tail[size:]


def _habit(speech: Speech | None) -> Habit | None:
    return HABITS.get(speech.thoughts) if speech is not None else None


def _check(schema: Any, param: str) -> None:
    try:
        limits.check_schema(schema)
    except limits.LimitError as error:
        raise unconstrainable(f"Invalid '{param}': {error}", param) from error


def _schema(function: Function) -> Constraint:
    return Constraint("json_schema", json.dumps({"type": "object"} | (function.get("parameters") or {})))
