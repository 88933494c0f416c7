"""What one sequence gives to mlx-lm's batch."""

from collections import deque
from collections.abc import Callable, Iterator

from lmx.backends.base import Logprob, SeqSpec
from lmx.backends.mlx.imports import greedy_sampler, mx
from lmx.backends.mlx.sampling.draw import Draw
from lmx.backends.mlx.sampling.dry import Dry
from lmx.backends.mlx.sampling.exclusion import Disobeyed, Masked, MinTokens
from lmx.backends.mlx.sampling.logprobs import Scores
from lmx.backends.mlx.sampling.penalties import Bias, Penalties
from lmx.backends.sampling.dry import dry_wanted
from lmx.backends.sampling.faults import ConstraintFault

Sample = Callable[[mx.array], mx.array]
Process = Callable[[mx.array, mx.array], mx.array]
MLX_ERRORS = (ValueError, RuntimeError, TypeError, IndexError, OverflowError)
"""What mlx raises while a graph is built."""


class RowSampling:
    """`sampler` and `processors` of one sequence, and what they found out on the way.

    mlx-lm calls them once for each token, one token ahead of those it reports, and once more after the last one.
    They never raise: an exception there would take other sequences with it, so `fault` waits to be asked for it.
    """

    def __init__(self, spec: SeqSpec) -> None:
        self._steps = list(_steps(spec))
        self._finite: deque[mx.array] | None = deque() if spec.audit else None
        self._scores = None if spec.logprobs is None else Scores(spec.logprobs)
        self._draw = None if spec.sampling.temperature <= 0 else Draw(spec.sampling, spec.written)
        self._processed = self._sampled = self._reported = 0
        self._error: tuple[int, str] | None = None

    @property
    def sampler(self) -> Sample:
        """Greedy rows share one object: mlx-lm samples a batch at once where all rows have the same."""
        return greedy_sampler if self._draw is None else self._sample

    @property
    def processors(self) -> list[Process]:
        idle = not self._steps and self._finite is None and self._scores is None
        return [] if idle else [self._process]

    def fault(self) -> str | None:
        """Why the next token to be reported must not be; asked once per token. Only audited sequences wait here."""
        index = self._reported
        self._reported += 1
        if self._finite is not None and not self._finite.popleft().item():
            return "the model computed logits that are not finite"
        if self._error is not None and self._error[0] <= index:
            return self._error[1]
        return None

    def logprob(self) -> Logprob | None:
        """Of the token just reported, called once for each in order; None when the sequence asks for none."""
        return None if self._scores is None else self._scores.take()

    def _process(self, tokens: mx.array, logits: mx.array) -> mx.array:
        index = self._processed
        self._processed += 1
        if self._finite is not None:
            self._finite.append(mx.isfinite(logits).all())
        try:
            return self._adjusted(tokens, logits)
        except Disobeyed as fault:
            self._fail(index - 1, str(fault))
        except ConstraintFault as fault:
            self._fail(index, str(fault))
        except MLX_ERRORS as error:
            self._fail(index, f"sampling failed: {error}")
        return logits

    def _adjusted(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._scores is not None:
            self._scores.see(tokens, logits)
        if self._error is None:
            for step in self._steps:
                logits = step(tokens, logits)
        return logits

    def _sample(self, logprobs: mx.array) -> mx.array:
        index = self._sampled
        self._sampled += 1
        try:
            return self._draw(logprobs) if self._draw is not None else greedy_sampler(logprobs)
        except MLX_ERRORS as error:
            self._fail(index, f"sampling failed: {error}")
            return greedy_sampler(logprobs)

    def _fail(self, index: int, message: str) -> None:
        """The token `index` must not be reported."""
        self._error = self._error or (index, message)


def _steps(spec: SeqSpec) -> Iterator[Process]:
    """What changes the logits, in the order that all backends have."""
    sampling = spec.sampling
    if sampling.logit_bias:
        yield Bias(sampling.logit_bias)
    if spec.mask is not None:
        yield Masked(spec.mask, spec.stop_ids)
    if spec.min_tokens and spec.stop_ids:
        yield MinTokens(spec)
    if Penalties.wanted(sampling):
        yield Penalties(sampling, spec.written)
    if dry_wanted(sampling):
        yield Dry(spec)
