"""What is added to logits because of the sequence's own settings and of what it has said."""

from lmx.backends.mlx.imports import mx
from lmx.backends.sampling.limits import bounded, bounded_factor
from lmx.machines.types import Sampling


class Bias:
    """Adds the sequence's own constants to some logits."""

    def __init__(self, bias: dict[int, float]) -> None:
        self._ids = mx.array(list(bias))
        self._values = mx.array([bounded(value) for value in bias.values()], mx.float32)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        return logits.astype(mx.float32).at[:, self._ids].add(self._values)


class Penalties:
    """What one sequence has said so far, counted on the device, and what repeating it costs."""

    def __init__(self, sampling: Sampling, written: int = 0) -> None:
        """The last `written` tokens of the prompt count as generated."""
        self._written = written
        self._repetition = bounded_factor(sampling.repetition_penalty)
        self._presence = bounded(sampling.presence_penalty)
        self._frequency = bounded(sampling.frequency_penalty)
        self._prompt: mx.array | None = None
        self._counts = mx.array(0.0)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens` are the prompt at the first call, and one more at each later one."""
        if self._prompt is None:
            nothing = mx.zeros(logits.shape, mx.float32)
            self._prompt = nothing.at[:, tokens].add(1.0) > 0
            own = tokens[tokens.size - self._written :]
            self._counts = nothing.at[:, own].add(1.0) if self._written else nothing
        else:
            self._counts = self._counts.at[:, tokens[-1:]].add(1.0)
        logits, said = logits.astype(mx.float32), self._counts > 0
        if self._repetition != 1:
            weakened = mx.where(logits < 0, logits * self._repetition, logits / self._repetition)
            logits = mx.where(self._prompt | said, weakened, logits)
        return logits - self._presence * said - self._frequency * self._counts
