"""One sequence in the engine, from the queue to its last token: what its tokens mean as text, and when it is over."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Literal

from msgspec.structs import replace

from lmx.backends.base import Info, Logprob, Token
from lmx.engine.first_call import first_call
from lmx.engine.intake import Ready
from lmx.engine.radix import as_array
from lmx.engine.text import Detokenizer, StopFinder
from lmx.machines.frames import Finish, Resume
from lmx.machines.types import CacheReport, Likely, TokenLogprob


class Sequence:
    """`waiting` (not in the backend), `reading` its prompt, or `decoding`."""

    def __init__(self, ready: Ready, info: Info) -> None:
        self.ready = ready
        self.seq = ready.seq
        self.prompt = ready.prompt
        self.array = as_array(ready.prompt)
        """The prompt once more, as the index of known prompts compares it: in every step while it waits."""
        self.generation = ready.generation
        self.phase: Literal["waiting", "reading", "decoding"] = "waiting"
        self.done = 0
        """Prompt tokens in the KV cache."""
        self.begun = False
        """The backend has reported on it since it was started."""
        self.cached: int | None = None
        """Prompt tokens that were known when it first began; None until then."""
        self.explanation: CacheReport | None = None
        self.common: dict[int, int] = {}
        """How many tokens its prompt begins with that another one's does too, by that one's id."""
        self.written: list[int] = []
        """By this worker."""
        self._info = info
        self._detokenizer = Detokenizer(info.token_bytes)
        self._stops = StopFinder(ready.generation.stop)
        self._thoughts = ready.rules.thoughts(info.token_bytes)
        self._thought_tokens = 0
        self._first_call = first_call(ready.rules)
        self._logprobs = Held()
        self._owed, self._told_ahead = "", 0
        self._take_up(ready.resume)

    @property
    def remaining(self) -> int:
        """Prompt tokens that are still to be read."""
        return len(self.prompt) - self.done

    @property
    def audit(self) -> bool:
        return self.generation.audit

    @property
    def rereads(self) -> bool:
        """Every prompt token's logits are wanted, so none may come from the cache."""
        return self.generation.audit or self.tells_prompt

    @property
    def tells_prompt(self) -> bool:
        """The prompt's log-probabilities are wanted; who has written anything has told them."""
        generation = self.generation
        return generation.echo and generation.logprobs is not None and not self.ready.written

    def explain(self, report: CacheReport) -> None:
        """Remember why not more of the prompt was known, and which message differed."""
        difference, ends = report.first_difference, self.ready.boundaries
        message = None if difference is None or not ends else min(bisect_right(ends, difference), len(ends) - 1)
        self.explanation = replace(report, message=message)

    @property
    def tokens(self) -> list[int]:
        """All that it consists of so far."""
        return self.prompt + self.written

    def token(self, event: Token) -> tuple[str, Finish | None]:
        """What a new token adds to the text, and whether it ends the sequence."""
        self.phase = "decoding"
        self.written.append(event.token)
        ends = event.reason == "stop"
        decoded = "" if ends else self._detokenizer.feed(event.token)
        self._think(event.token)
        if event.logprob is not None and not ends:
            self._logprobs.add(self.named(event.logprob), len(decoded))
        text = self._stops.feed(decoded)
        if event.reason is not None and not self._stops.found:
            text += self._stops.feed(self._detokenizer.flush())
            text += self._stops.flush()
        finish = Finish(event.reason) if event.reason is not None else None
        if self._stops.found:
            finish = Finish("stop", stop=self._stops.found)
        if finish is None and self._first_call is not None and self._first_call.ended(text):
            finish = Finish("stop")
        self._logprobs.show(len(text), everything=finish is not None and not self._stops.found)
        return self._news(text), finish

    def _take_up(self, resume: Resume) -> None:
        """As if this worker had written and told what another one did.

        That one may have told more than `token_ids` say: text of tokens that are to be written again.
        """
        for token in resume.token_ids:
            self._think(token)
        decoded = "".join([self._detokenizer.feed(token) for token in resume.token_ids])
        text = self._stops.feed(decoded)
        if self._first_call is not None:
            self._first_call.ended(text)
        self._logprobs.skip(len(decoded), len(text))
        self._owed = text[resume.characters :]
        self._told_ahead = max(0, resume.characters - len(text))

    def _news(self, text: str) -> str:
        """What of the text that comes now was not told before."""
        cut = min(self._told_ahead, len(text))
        self._told_ahead -= cut
        owed, self._owed = self._owed, ""
        return owed + text[cut:]

    def thoughts(self) -> int:
        """Tokens that turned out to be thoughts since the last call; at first also those that came from elsewhere."""
        count, self._thought_tokens = self._thought_tokens, 0
        return count

    def _think(self, token: int) -> None:
        if self._thoughts is not None:
            self._thought_tokens += self._thoughts.feed(token)

    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those of the text that was shown since the last call."""
        return tuple(self._logprobs.take())

    def named(self, logprob: Logprob) -> TokenLogprob:
        """With the text of every token that it speaks of."""
        pieces = self._info.token_bytes
        top = tuple(Likely(token, pieces[token], value) for token, value in logprob.top)
        return TokenLogprob(logprob.token, pieces[logprob.token], logprob.logprob, top)


class Held:
    """Log-probabilities of tokens whose text is held back: told with it, or never, when a stop string ate it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._shown: list[TokenLogprob] = []
        self._decoded = 0
        self._told = 0

    def add(self, logprob: TokenLogprob, characters: int) -> None:
        self._decoded += characters
        self._waiting.append((self._decoded, logprob))

    def skip(self, decoded: int, told: int) -> None:
        """So much text came, and was told, before: the log-probabilities with it."""
        self._decoded += decoded
        self._told += told

    def show(self, characters: int, *, everything: bool) -> None:
        """So many more characters were told; `everything`: the text is complete."""
        self._told += characters
        while self._waiting and (everything or self._waiting[0][0] <= self._told):
            self._shown.append(self._waiting.popleft()[1])

    def take(self) -> Iterator[TokenLogprob]:
        shown, self._shown = self._shown, []
        return iter(shown)
