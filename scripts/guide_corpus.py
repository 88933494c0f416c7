"""The text that lmx-guide learns, as entries and as endless random dialogs. Reads lmx/guide; needs jinja2, no torch."""

import itertools
import random
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2.sandbox

GUIDE = Path(__file__).parent.parent / "lmx" / "guide"
NOT_TAUGHT = "not taught"
LONGEST_HISTORY = 12
BEFORE = (
    "please ",
    "hi, ",
    "hey, ",
    "hello, ",
    "please tell me: ",
    "can you tell me: ",
    "I have a question: ",
    "so, ",
    "and ",
)
AFTER = (" please", " thanks", " in lmx", "?", "!", " ?", " :)")
OTHERWISE = {
    "What is ": ("What's ", "What is ", "Explain ", "Tell me about ", ""),
    "How do I ": ("How to ", "How can I ", "How would I ", "Tell me how to ", "I want to ", ""),
    "What does ": ("Tell me what ", "And what does "),
    "Which ": ("What ", "Tell me which ", "And which "),
    "Why ": ("Tell me why ", "And why "),
}
SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Be brief.",
    "You are lmx-guide.",
    "You are an expert for lmx.",
    "Answer in one sentence.",
    "Answer truthfully and politely.",
    "You are a chat bot on a web page. Help the user as well as you can.",
    "Today is a good day. The user is a programmer.",
)

Message = dict[str, Any]
Tool = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One answer with the questions that lead to it."""

    topic: str
    questions: tuple[str, ...]
    answer: str
    think: str
    tools: tuple[Tool, ...] = ()
    results: tuple[str, ...] = ()
    then: str = ""


@dataclass(frozen=True)
class Dialog:
    """Messages that end with the assistant's; with `think`, the last answer is thought over first."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    think: str = ""


def load_corpus(folder: Path = GUIDE / "corpus") -> list[Entry]:
    """Every entry of every topic, placeholders filled in. Raises ValueError for a question that has two answers."""
    entries = [entry for path in sorted(folder.glob("*.toml")) for entry in _read(path)]
    answers: dict[tuple[str, bool], str] = {}
    for entry in entries:
        for question in entry.questions:
            if answers.setdefault((_plain(question), bool(entry.tools)), entry.answer) != entry.answer:
                raise ValueError(f"{question!r} has two answers, one of them in {entry.topic}")
    return entries


def load_template(path: Path = GUIDE / "chat_template.jinja") -> jinja2.Template:
    return jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(path.read_text(encoding="utf-8"))


def render(template: jinja2.Template, dialog: Dialog) -> str:
    """The whole text of a dialog, as the model reads and writes it."""
    if not dialog.think:
        return template.render(messages=dialog.messages, tools=dialog.tools)
    head = template.render(
        messages=dialog.messages[:-1], tools=dialog.tools, add_generation_prompt=True, enable_thinking=True
    )
    return f"{head}{dialog.think}\n</think>\n\n{dialog.messages[-1]['content']}<|im_end|>\n"


def ask(entry: Entry, question: str) -> Dialog:
    """The shortest dialog: one question, one answer."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": entry.answer}]
    return Dialog(messages, list(entry.tools))


class Sampler:
    """Random dialogs over a corpus: history, system messages, tools, thinking, and carelessly typed questions."""

    def __init__(self, entries: Iterable[Entry], seed: int) -> None:
        entries = list(entries)
        self.rng = random.Random(seed)
        self.stranger = next(entry for entry in entries if entry.topic == NOT_TAUGHT)
        self.taught = [entry for entry in entries if not entry.tools and entry is not self.stranger]
        self.tooled = [entry for entry in entries if entry.tools]
        self.toolbox = list({tool["function"]["name"]: tool for entry in self.tooled for tool in entry.tools}.values())

    def dialog(self, *, long: bool) -> Dialog:
        """Any dialog, as training wants them: up to two turns of history, or with `long` from two turns on."""
        kind = self.rng.random()
        turns = self.rng.choice((2, 3, 4, 5, 6, LONGEST_HISTORY) if long else (0, 0, 0, 1, 2))
        return self.tool_dialog(min(turns, 3)) if kind < 0.25 else self.plain_dialog(turns, thinking=kind > 0.88)

    def plain_dialog(self, turns: int, *, thinking: bool = False, system: float = 0.3) -> Dialog:
        """`turns` unrelated turns of history, then a question, all without tools."""
        entries = [self.entry() for _ in range(turns + 1)]
        messages = [message for entry in entries for message in self._turn(entry)]
        return Dialog(self.system(system) + messages, think=entries[-1].think if thinking else "")

    def tool_dialog(self, turns: int) -> Dialog:
        """Tools are there; mostly the last question needs one of them, and some calls have already been answered."""
        rng = self.rng
        entry = rng.choice(self.tooled) if rng.random() < 0.8 else self.entry()
        tools = rng.sample(self.toolbox, rng.randint(1, 3))
        tools += [tool for tool in entry.tools if tool not in tools]
        rng.shuffle(tools)
        past = [message for _ in range(turns) for message in self._turn(self.entry())]
        messages = self.system(0.2) + past + self._turn(entry)
        if not entry.tools or rng.random() < 0.7:
            return Dialog(messages, tools, entry.think if rng.random() < 0.1 else "")
        result = rng.choice((*entry.results, self._gibberish()))
        return Dialog(
            [*messages, {"role": "tool", "content": result}, {"role": "assistant", "content": entry.then}], tools
        )

    def entry(self) -> Entry:
        return self.stranger if self.rng.random() < 0.2 else self.rng.choice(self.taught)

    def _turn(self, entry: Entry) -> list[Message]:
        question = self._strange() if entry is self.stranger else self.rng.choice(entry.questions)
        return [
            {"role": "user", "content": self.vary(question, typos=not entry.tools)},
            {"role": "assistant", "content": entry.answer},
        ]

    def system(self, share: float) -> list[Message]:
        """A random system message in that share of all calls, else none."""
        if self.rng.random() >= share:
            return []
        text = self.rng.choice((*SYSTEM, *SYSTEM, self._strange()))
        return [{"role": "system", "content": text}]

    def _strange(self) -> str:
        """A question that nobody taught: listed, spliced from listed ones, or with words that do not exist."""
        rng = self.rng
        first, second = rng.choices(self.stranger.questions, k=2)
        kind = rng.random()
        if kind < 0.6:
            return first
        if kind < 0.75:
            return f"{_half(first, 0)} {_half(second, 1)}"
        opening = " ".join(rng.choice(rng.choice(self.taught).questions).split()[: rng.randint(1, 3)])
        return (
            f"{opening} {_half(second, 1)}"
            if kind < 0.88
            else f"{rng.choice((opening, ''))} {self._gibberish()}?".strip()
        )

    def _gibberish(self) -> str:
        words = [
            "".join(self.rng.choices("aeiourstlnmdkpbgfhvwyczjxq", k=self.rng.randint(2, 8)))
            for _ in range(self.rng.randint(1, 3))
        ]
        return " ".join(words)

    def vary(self, question: str, *, typos: bool = True) -> str:
        """The same question, as people type it."""
        rng = self.rng
        if rng.random() < 0.4:
            return question
        opening = next((opening for opening in OTHERWISE if question.startswith(opening)), "")
        if opening and rng.random() < 0.3:
            question = rng.choice(OTHERWISE[opening]) + question.removeprefix(opening)
        if rng.random() < 0.2:
            question = rng.choice(BEFORE) + question[:1].lower() + question[1:]
        if rng.random() < 0.5:
            question = question.rstrip("?.!")
        if rng.random() < 0.15:
            question += rng.choice(AFTER)
        if rng.random() < 0.5:
            question = question.lower()
        return self._mistyped(question) if typos and rng.random() < 0.12 else question

    def _mistyped(self, question: str) -> str:
        """One letter lost or doubled; short and quoted questions stay as they are."""
        if len(question) < 12 or "{" in question:
            return question
        at = self.rng.randrange(len(question))
        return question[:at] + (question[at] * 2 if self.rng.random() < 0.4 else "") + question[at + 1 :]


def _half(question: str, which: int) -> str:
    words = question.split()
    middle = len(words) // 2
    return " ".join(words[middle:] if which else words[:middle])


def _plain(question: str) -> str:
    return question.lower().strip(" ?.!")


def _read(path: Path) -> Iterator[Entry]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    tools = {
        name: {"type": "function", "function": {"name": name, **rest}} for name, rest in content.get("tool", {}).items()
    }
    for raw in content["entry"]:
        for answer, questions in _filled(raw, content.get("fill", {})).items():
            yield Entry(
                topic=content["topic"],
                questions=tuple(questions),
                answer=answer,
                think=raw.get("think", content["think"]),
                tools=tuple(tools[name] for name in raw.get("tools", ())),
                results=tuple(content.get("results", ())),
                then=content.get("then", ""),
            )


def _filled(raw: dict[str, Any], choices: dict[str, list[str]]) -> dict[str, list[str]]:
    """The questions of each answer, once every placeholder is filled in, in every way."""
    found: dict[str, list[str]] = {}
    for question in raw["questions"]:
        used = [name for name in choices if f"{{{name}}}" in question]
        for words in itertools.product(*(choices[name] for name in used)):
            texts = [question, raw["answer"]]
            for name, word in zip(used, words, strict=True):
                texts = [text.replace(f"{{{name}}}", word) for text in texts]
            found.setdefault(texts[1], []).append(texts[0])
    return found
