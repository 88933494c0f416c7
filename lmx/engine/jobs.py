"""Embeddings and scores: jobs that are computed between the engine's steps, a few inputs at a time."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Backend, Info
from lmx.engine.wire import MAX_FRAME
from lmx.machines import frames
from lmx.machines.tasks import Embedding, Input, Pair
from lmx.machines.types import Refusal, RefusalKind, Text, Tokens

BATCH_TOKENS = 512
BATCH_INPUTS = 8
"""One turn reads so many at most (a longer input by itself): those who decode wait no longer than for a prompt."""


PIECES = re.compile(r"({query}|{document}|<[^<>\s]+>|\[[A-Z]+\])")
"""What a pair's text is made of: the two texts, what may be a control token, and words in between."""


@dataclass(slots=True)
class Job:
    """Inputs that fit, and what is known of them so far."""

    job: int
    inputs: list[list[int]]
    score: bool
    dimensions: int = 0
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(map(len, self.rows))

    def next_inputs(self) -> list[list[int]]:
        batch: list[list[int]] = []
        for tokens in self.inputs[self.done : self.done + BATCH_INPUTS]:
            if batch and sum(map(len, batch)) + len(tokens) > BATCH_TOKENS:
                break
            batch.append(tokens)
        return batch


class Jobs:
    """Those of one model, in turns; used by the engine thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._jobs: deque[Job] = deque()

    @property
    def idle(self) -> bool:
        return not self._jobs

    @property
    def turn_tokens(self) -> int:
        """What the next turn reads."""
        return sum(map(len, self._jobs[0].next_inputs())) if self._jobs else 0

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def cancel(self, job: int) -> None:
        """Forget it; unknown ids are ignored."""
        self._jobs = deque(one for one in self._jobs if one.job != job)

    def step(self) -> frames.Embedded | None:
        """Compute the next inputs of whoever waits longest; what it says is told when it has come to a job's end.

        Raises EngineFatal, as a step of the backend does.
        """
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        compute = self._backend.score if job.score else self._backend.embed
        rows = compute(job.next_inputs())
        if not np.isfinite(rows).all():
            return frames.Embedded(job.job, error="The model gave numbers that are not finite.")
        job.rows.append(rows)
        if job.done < len(job.inputs):
            self._jobs.append(job)
            return None
        return _told(job)


def _told(job: Job) -> frames.Embedded:
    rows = np.concatenate(job.rows)
    if job.dimensions:
        rows = _shortened(rows, job.dimensions)
    width = 1 if job.score else rows.shape[1]
    return frames.Embedded(job.job, rows.astype("<f4").tobytes(), width, tuple(map(len, job.inputs)))


def _shortened(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The beginnings of rows, at length 1 again; one of nothing but zeros stays as it is."""
    cut = rows[:, :width]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.where(lengths > 0, lengths, 1), np.float32)


@dataclass(frozen=True)
class JobIntake:
    """Tokenises and checks; used by the intake thread."""

    backend: Backend
    info: Info

    def prepare(self, embed: frames.Embed) -> Job | frames.Rejected:
        asked = embed.embedding
        refusal = self._unfit(asked)
        inputs: list[list[int]] = []
        for place, one in enumerate(asked.inputs):
            if refusal is None:
                inputs.append(self._tokens(one))
                refusal = self._bad(one, inputs[-1], place)
        if refusal is not None:
            return frames.Rejected(embed.job, refusal)
        return Job(embed.job, inputs, asked.score, asked.dimensions)

    def _unfit(self, asked: Embedding) -> Refusal | None:
        """Why the model cannot do this at all."""
        info, count, score = self.info, len(asked.inputs), asked.score
        if score and not info.pair:
            return _invalid("This model does not rerank: choose a reranking model.", "model")
        if not score and not info.embedding:
            return _invalid("This model makes no embeddings: choose an embedding model.", "model")
        most = MAX_FRAME // 2 // (4 * (1 if score else info.embedding))
        if not 0 < count <= most:
            text = f"One request takes 1 to {most} inputs of this model, not {count}."
            return _invalid(text, "documents" if score else "input")
        if asked.dimensions > info.embedding:
            text = f"This model's embeddings have {info.embedding} dimensions: {asked.dimensions} are too many."
            return _invalid(text, "dimensions")
        return None

    def _tokens(self, one: Input) -> list[int]:
        match one:
            case Tokens(ids):
                return list(ids)
            case Text(text):
                start = [] if self.info.bos is None else [self.info.bos]
                return [*start, *self.backend.encode(text, special=False), *self.info.ends]
            case Pair(query, document):
                return self._pair(query, document)

    def _pair(self, query: str, document: str) -> list[int]:
        """The model's own text around both; control tokens that somebody wrote into a document mean nothing there."""
        filled = {"{query}": query, "{document}": document}
        tokens: list[int] = []
        plain = ""
        for piece in PIECES.split(self.info.pair):
            control = self.backend.encode(piece, special=True) if PIECES.fullmatch(piece) else []
            if len(control) == 1 and not self.info.token_bytes[control[0]]:
                tokens += [*self._plain(plain), *control]
                plain = ""
            else:
                plain += filled.get(piece, piece)
        return tokens + self._plain(plain)

    def _plain(self, text: str) -> list[int]:
        return self.backend.encode(text, special=False) if text else []

    def _bad(self, one: Input, tokens: Sequence[int], place: int) -> Refusal | None:
        vocab, context = self.info.vocab, self.info.context
        if isinstance(one, Pair) and not self.info.pair:
            return _invalid("This model does not rerank: choose a reranking model.", "model")
        if not tokens or (isinstance(one, Text) and not one.text):
            return _invalid(f"Input {place} is empty: it has no tokens.", "input")
        if min(tokens) < 0 or max(tokens) >= vocab:
            return _invalid(f"Input {place} holds a token id outside 0 … {vocab - 1}.", "input")
        if len(tokens) > context:
            what, param = ("document", "documents") if isinstance(one, Pair) else ("input", "input")
            text = (
                f"This model's maximum context length is {context} tokens. However, {what} {place} has {len(tokens)}."
            )
            return Refusal(RefusalKind.CONTEXT_LENGTH_EXCEEDED, text + " Please reduce its length.", param=param)
        return None


def refuse_generation(info: Info) -> Refusal | None:
    """Why a model of this kind takes no sequences; None when it does."""
    if info.generates:
        return None
    kind, route = ("an embedding", "/v1/embeddings") if info.embedding else ("a reranking", "/v1/rerank")
    return _invalid(f"This is {kind} model, which writes no text: use {route}.", "model")


def _invalid(text: str, param: str) -> Refusal:
    return Refusal(RefusalKind.INVALID_PROMPT, text, param=param)
