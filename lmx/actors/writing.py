"""What one sequence has told its client so far: enough for another worker to go on with it."""

from dataclasses import dataclass, field

from lmx.actors.messages import client
from lmx.machines import frames


@dataclass(slots=True)
class Writing:
    tokens: int = 0
    """Completion tokens, of all workers together."""
    thoughts: int = 0
    """Those of them that were thoughts."""
    ids: list[int] = field(default_factory=list)
    characters: int = 0
    """Of the text that was told."""
    logprobs: int = 0
    """Tokens whose log-probabilities were told."""
    read: int = 0
    """Prompt tokens that were told to be read."""
    _prompt_told: int = 0
    """Prompt tokens whose log-probabilities were told, …"""
    _prompt_heard: int = 0
    """… and those that the present worker has spoken of."""
    _explained: bool = False
    _again: bool = False
    """This is not its first worker."""

    def add(self, did: frames.SeqStep) -> None:
        """What a step wrote."""
        self.tokens += did.n_tokens
        self.thoughts += did.thought_tokens
        self.ids += did.token_ids
        self.characters += len(did.text)
        self.logprobs += len(did.logprobs)

    def prefilled(self, did: frames.SeqStep, prompt_tokens: int) -> client.Prefilled | None:
        """What the client is told of a prompt being read; None when all of it was told by an earlier worker."""
        done = min(did.prefilled, prompt_tokens) if self._again else did.prefilled
        fresh = did.prompt_logprobs[max(0, self._prompt_told - self._prompt_heard) :]
        cache = None if self._explained else did.cache
        old = self._again and done <= self.read and not fresh and cache is None
        self._prompt_heard += len(did.prompt_logprobs)
        self._prompt_told = max(self._prompt_told, self._prompt_heard)
        self._explained = self._explained or cache is not None
        self.read = max(self.read, done)
        return None if old else client.Prefilled(done, fresh, cache)

    def cut(self, *, logprobs: bool) -> None:
        """Another worker goes on. It writes again what was not told as a whole: here the tokens whose log-probabilities
        were asked for and are still owed, because their text was held back."""
        if logprobs:
            del self.ids[self.logprobs :]
            self.tokens = len(self.ids)
        self._prompt_heard, self._again = 0, True
        self.thoughts = 0  # the next worker counts from the beginning

    def resume(self) -> frames.Resume | None:
        """Where another worker goes on; None at the beginning."""
        return frames.Resume(tuple(self.ids), self.characters) if self.ids or self.characters else None
