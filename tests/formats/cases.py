"""Texts as models of each format write them, and what they mean."""

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from lmx.formats.parting import Parting
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.machines.speech import Speech

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            "hours": {"type": "array", "items": {"type": "integer"}},
            "exact": {"type": "boolean"},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
}
NOW: dict[str, Any] = {"name": "now", "description": "The time."}
FUNCTIONS = (WEATHER, NOW)

PARIS = ("get_weather", {"city": "Paris", "days": 2, "hours": [1, 2], "exact": True})
LOUD = ("get_weather", {"city": 'a "b"\n<c> é {d}', "unit": "kelvin"})
NOON = ("now", dict[str, Any]())

SEP, TOOLS, TOOLS_END = "<\uff5ctool▁sep\uff5c>", "<\uff5ctool▁calls▁begin\uff5c>", "<\uff5ctool▁calls▁end\uff5c>"
CALL, CALL_END = "<\uff5ctool▁call▁begin\uff5c>", "<\uff5ctool▁call▁end\uff5c>"

PARIS_JSON = '{"city": "Paris", "days": 2, "hours": [1, 2], "exact": true}'
LOUD_JSON = '{"city": "a \\"b\\"\\n<c> é {d}", "unit": "kelvin"}'


@dataclass(frozen=True)
class Case:
    calls: str
    text: str
    means: tuple[Any, ...]
    """Answers as strings, thoughts as ("think", text), calls as (name, arguments)."""
    thoughts: str = ""
    canonical: bool = False
    """A grammar for calls that must come lets this very text come."""

    @property
    def speech(self) -> Speech:
        return Speech(calls=self.calls, thoughts=self.thoughts)


def canonical(calls: str, paris: str, loud: str, noon: str, join: tuple[str, str, str] = ("", "\n", "")) -> list[Case]:
    """One call each, and all of them; `join` is what is before, between and after them."""
    begin, between, end = join
    single = [
        Case(calls, begin + text + end, (means,), canonical=True)
        for text, means in ((paris, PARIS), (loud, LOUD), (noon, NOON))
    ]
    every = Case(calls, begin + between.join((paris, loud, noon)) + end, (PARIS, LOUD, NOON), canonical=True)
    before = Case(calls, "Let me see.\n\n" + every.text, ("Let me see.", *every.means))
    return [*single, every] if calls in ("llama3", "pythonic", "harmony") else [*single, every, before]


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def tagged(template: str, member: str, name: str, **members: str) -> str:
    return template.format(
        name=name, members="".join(member.format(key=key, value=value) for key, value in members.items())
    )


QWEN = (
    "<tool_call>\n<function={name}>\n{members}</function>\n</tool_call>",
    "<parameter={key}>\n{value}\n</parameter>\n",
)
MINIMAX = '<invoke name="{name}">\n{members}</invoke>', '<parameter name="{key}">{value}</parameter>\n'
GLM = "<tool_call>{name}\n{members}</tool_call>", "<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n"
TAGGED_PARIS = {"city": "Paris", "days": "2", "hours": "[1, 2]", "exact": "true"}
TAGGED_LOUD = {"city": 'a "b"\n<c> é {d}', "unit": "kelvin"}


def three(pair: tuple[str, str]) -> tuple[str, str, str]:
    return (
        tagged(*pair, "get_weather", **TAGGED_PARIS),
        tagged(*pair, "get_weather", **TAGGED_LOUD),
        tagged(*pair, "now"),
    )


def kimi(name: str, arguments: str, number: int) -> str:
    return f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def gemma(begin: str, quote: str, end: str) -> tuple[str, str, str]:
    return (
        f"{begin}call:get_weather{{city:{quote}Paris{quote},days:2,hours:[1,2],exact:true}}{end}",
        f'{begin}call:get_weather{{city:{quote}a "b"\n<c> é {{d}}{quote},unit:{quote}kelvin{quote}}}{end}',
        f"{begin}call:now{{}}{end}",
    )


def harmony(name: str, arguments: str) -> str:
    return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}"


PYTHONIC = (
    'get_weather(city="Paris", days=2, hours=[1, 2], exact=true)',
    'get_weather(city="a \\"b\\"\\n<c> é {d}", unit="kelvin")',
    "now()",
)
LISTED = (
    f'{{"name": "get_weather", "arguments": {PARIS_JSON}}}',
    f'{{"name": "get_weather", "arguments": {LOUD_JSON}}}',
    '{"name": "now", "arguments": {}}',
)
PARAMETERS = (
    LISTED[0].replace("arguments", "parameters"),
    LISTED[1].replace("arguments", "parameters"),
    LISTED[2].replace("arguments", "parameters"),
)
THINK = "<|channel|>analysis<|message|>Hm.<|end|>"
CASES: list[Case] = [
    *canonical("hermes", hermes("get_weather", PARIS_JSON), hermes("get_weather", LOUD_JSON), hermes("now", "{}")),
    *canonical("qwen3_coder", *three(QWEN)),
    *canonical("glm45", *three(GLM)),
    *canonical("llama3", *PARAMETERS, join=("", "; ", "")),
    *canonical("pythonic", *PYTHONIC, join=("[", ", ", "]")),
    *canonical("lfm2", *PYTHONIC, join=("<|tool_call_start|>[", ", ", "]<|tool_call_end|>")),
    *canonical("mistral_list", *LISTED, join=("[TOOL_CALLS][", ", ", "]")),
    *canonical("gemma4", *gemma("<|tool_call>", '<|"|>', "<tool_call|>"), join=("", "", "")),
    *canonical("function_gemma", *gemma("<start_function_call>", "<escape>", "<end_function_call>"), join=("", "", "")),
    *canonical(
        "mistral",
        f"[TOOL_CALLS]get_weather[ARGS]{PARIS_JSON}",
        f"[TOOL_CALLS]get_weather[ARGS]{LOUD_JSON}",
        "[TOOL_CALLS]now[ARGS]{}",
        join=("", "", ""),
    ),
    *canonical(
        "mistral_ids",
        f"[TOOL_CALLS]get_weather[CALL_ID]abcDEF123[ARGS]{PARIS_JSON}",
        f"[TOOL_CALLS]get_weather[CALL_ID]abcDEF124[ARGS]{LOUD_JSON}",
        "[TOOL_CALLS]now[CALL_ID]abcDEF125[ARGS]{}",
        join=("", "", ""),
    ),
    *canonical(
        "kimi_k2",
        kimi("get_weather", PARIS_JSON, 0),
        kimi("get_weather", LOUD_JSON, 1),
        kimi("now", "{}", 2),
        join=("<|tool_calls_section_begin|>", "", "<|tool_calls_section_end|>"),
    ),
    *canonical(
        "deepseek_v31",
        f"{CALL}get_weather{SEP}{PARIS_JSON}{CALL_END}",
        f"{CALL}get_weather{SEP}{LOUD_JSON}{CALL_END}",
        f"{CALL}now{SEP}{{}}{CALL_END}",
        join=(TOOLS, "", TOOLS_END),
    ),
    *canonical(
        "deepseek_v3",
        f"{CALL}function{SEP}get_weather\n```json\n{PARIS_JSON}\n```{CALL_END}",
        f"{CALL}function{SEP}get_weather\n```json\n{LOUD_JSON}\n```{CALL_END}",
        f"{CALL}function{SEP}now\n```json\n{{}}\n```{CALL_END}",
        join=(TOOLS, "\n", TOOLS_END),
    ),
    *canonical("minimax_m2", *three(MINIMAX), join=("<minimax:tool_call>\n", "\n", "\n</minimax:tool_call>")),
    Case("harmony", harmony("get_weather", PARIS_JSON), (PARIS,), "harmony", canonical=True),
    Case("harmony", harmony("now", "{}"), (NOON,), "harmony", canonical=True),
    # The ways in which they differ from that.
    Case("hermes", f"<tool_call>{LISTED[0]}</tool_call> Done.", (PARIS, " Done.")),
    Case("hermes", '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>',
         (("get_weather", {"city": "Paris"}),)),
    Case("hermes", '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
         (("get_weather", {"city": "Paris"}),)),
    Case("hermes", '<tool_call>{"name": "now"}</tool_call>', (NOON,)),
    Case("hermes", '<tool_call>{"name": "now", "arguments": null, "id": "x"}', (NOON,)),
    Case("hermes", '<tool_call>{"name": "get_weather", "arguments": {"city": "a\nb"}}</tool_call>',
         (("get_weather", {"city": "a\nb"}),)),
    Case("hermes", f"<think>\nHm.\n\nYes.\n</think>\n\nSo.\n{hermes('now', '{}')}",
         (("think", "Hm.\n\nYes."), "So.", NOON), "think"),
    Case("hermes", f"<think></think>{hermes('now', '{}')}\n", (NOON,), "think"),
    Case("qwen3_coder", "<function=now>\n</function>\n</tool_call>", (NOON,)),
    Case("qwen3_coder", "<tool_call><function=get_weather><parameter=city>Paris</parameter><parameter=exact>True"
         "</parameter></function></tool_call>ok", (("get_weather", {"city": "Paris", "exact": True}), "ok")),
    Case("qwen3_coder", tagged(*QWEN, "get_weather", city="12", days="many", more="[1]"),
         (("get_weather", {"city": "12", "days": "many", "more": [1]}),)),
    Case("glm45", "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>",
         (("get_weather", {"city": "Paris"}),)),
    Case("llama3", '<|python_tag|>{"type": "function", "name": "now", "parameters": {}}', (NOON,)),
    Case("llama3", '{"name": "Bob", "age": 3}', ('{"name": "Bob", "age": 3}',)),
    Case("llama3", '{"age": 3}', ('{"age": 3}',)),
    Case("pythonic", "<|python_start|>[now()]<|python_end|>", (NOON,)),
    Case("pythonic", "[get_weather(city='Paris', exact=True, unit=kelvin,)]",
         (("get_weather", {"city": "Paris", "exact": True, "unit": "kelvin"}),)),
    Case("pythonic", "[get_weather(city='a \"b\\'')]", (("get_weather", {"city": 'a "b\''}),)),
    Case("pythonic", "[1] says [now]", ("[1] says [now]",)),
    Case("mistral", '[TOOL_CALLS]now{}get_weather[ARGS]{"city": "Paris"} bye',
         (NOON, ("get_weather", {"city": "Paris"}), " bye")),
    Case("mistral", "[THINK]Hm.[/THINK]Hello [TOOL", (("think", "Hm."), "Hello [TOOL"), "mistral"),
    Case("gemma4", "<|channel>thought\nHm.\n<channel|>Hello", (("think", "Hm."), "Hello"), "gemma4"),
    Case("gemma4", "<|tool_call>call:get_weather{city:12,unit:kelvin}<tool_call|>",
         (("get_weather", {"city": "12", "unit": "kelvin"}),)),
    Case("kimi_k2", kimi("now", "{}", 0), (NOON,)),
    Case("", "<seed:think>Hm.</seed:think>Yes", (("think", "Hm."), "Yes"), "seed"),
    Case("harmony", THINK + "<|start|>assistant<|channel|>commentary<|message|>See:<|end|>"
         "<|start|>assistant to=functions.now<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
         (("think", "Hm."), "See:", NOON), "harmony"),
    Case("harmony", THINK + "<|start|>assistant<|channel|>final<|message|>Hello<|return|>",
         (("think", "Hm."), "Hello"), "harmony"),
    Case("harmony", " to=functions.now<|channel|>commentary json<|message|> {}", (NOON,), "harmony"),
]  # fmt: skip


def parts_of(
    pieces: Sequence[str],
    speech: Speech,
    functions: Sequence[dict[str, Any]] = FUNCTIONS,
    eager: Container[str] | None = None,
) -> list[Part]:
    parting = Parting(speech, functions, eager)
    parts = [part for piece in pieces for part in parting.feed(piece)]
    return parts + parting.end()


def joined(parts: Sequence[Part]) -> list[Any]:
    """As in `Case.means`; a call that has not ended has its arguments as the text that came."""
    means: list[Any] = []
    for part in parts:
        match part:
            case Said(text):
                if means and isinstance(means[-1], str):
                    means[-1] += text
                else:
                    means.append(text)
            case Thought(text):
                if means and means[-1][0] == "think":
                    means[-1] = ("think", means[-1][1] + text)
                else:
                    means.append(("think", text))
            case CallBegun(_, name):
                means.append((name, ""))
            case CallArguments(_, text):
                means[-1] = (means[-1][0], means[-1][1] + text)
            case CallEnded():
                means[-1] = (means[-1][0], json.loads(means[-1][1]))
    return means
