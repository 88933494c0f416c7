"""Chats that grow: how much of what was computed before is computed again."""

from dataclasses import dataclass, field
from statistics import median
from typing import ClassVar

from lmx.bench.lab import Lab, chat, system, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Answer, Ask, BenchError
from lmx.bench.workloads.base import Facts, Ratio, Workload

TURN_WORDS, REPLY_TOKENS = 40, 32
TURNS = 8
TEMPLATE_TAIL = 7
"""Tokens behind the words of the last message, with the bench models' chat template."""


@dataclass
class Agent:
    """One chat. A request of its can reuse the prompt of the one before it; the first one, only what others share."""

    name: str
    shared: str
    turns: list[Answer] = field(default_factory=list)
    _messages: list[dict[str, str]] = field(default_factory=list)

    def next(self, site: Site) -> Ask:
        if not self._messages:
            self._messages.append(system(self.shared))
        self._messages.append(user(text(TURN_WORDS, f"{self.name} {len(self.turns)}")))
        return chat(site, self._messages, REPLY_TOKENS)

    def heard(self, answer: Answer) -> None:
        self.turns.append(answer)
        self._messages.append({"role": "assistant", "content": answer.text})

    def reusable(self, shared: int) -> list[int]:
        """For each turn, how many of its prompt's tokens an earlier request had computed."""
        return [shared, *(answer.prompt for answer in self.turns[:-1])]


class Turns(Workload):
    name = "turns"
    about = "one chat of 8 turns"
    rounds = 2
    gives: ClassVar = {"reused": Ratio("cached tokens ÷ tokens of the prompt before, over all turns")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        agent = Agent(seed, text(600, f"{seed} shared"))
        for _ in range(TURNS):
            agent.heard(lab.ask(site, [agent.next(site)])[0])
        return _reuse([agent], [agent.reusable(0)])

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"reused": facts["reused_tokens"] / facts["reusable_tokens"]}


class Agents(Workload):
    name = "agents"
    about = "4 agents with one system prompt, 8 turns each, all at once"
    rounds, peer_rounds = 2, 1
    agents: ClassVar[int] = 4
    gives: ClassVar = {"reused": Ratio("cached tokens ÷ tokens that the agent or another one had sent before")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        shared = text(600, f"{seed} shared")
        agents = [Agent(f"{seed} {number}", shared) for number in range(self.agents)]
        for _ in range(TURNS):
            answers = lab.ask(site, [agent.next(site) for agent in agents])
            for agent, answer in zip(agents, answers, strict=True):
                agent.heard(answer)
        common = self._common(lab, site, shared)
        first, *others = agents
        return _reuse(agents, [first.reusable(0), *(agent.reusable(common) for agent in others)])

    def _common(self, lab: Lab, site: Site, shared: str) -> int:
        """Tokens of the system prompt and of what stands between it and the first word of a question."""
        [answer] = lab.ask(site, [chat(site, [system(shared), user(text(1, "one"))], 1)])
        return max(0, answer.prompt - 1 - TEMPLATE_TAIL)

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"reused": facts["reused_tokens"] / facts["reusable_tokens"]}


def _reuse(agents: list[Agent], reusable: list[list[int]]) -> Facts:
    """Reused tokens beyond the reusable ones (of replies) do not make up for others that were not."""
    turns = [answer for agent in agents for answer in agent.turns]
    known = [count for counts in reusable for count in counts]
    if not sum(known):
        raise BenchError("it does not count the tokens of prompts")
    return {
        "reused_tokens": sum(min(answer.cached, count) for answer, count in zip(turns, known, strict=True)),
        "reusable_tokens": sum(known),
        "cached_tokens": sum(answer.cached for answer in turns),
        "prompt_tokens": sum(answer.prompt for answer in turns),
        "ttft_last": median(agent.turns[-1].ttft for agent in agents),
    }
