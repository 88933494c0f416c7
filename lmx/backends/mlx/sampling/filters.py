"""Which tokens may be drawn: the others' log-probabilities become -inf."""

import functools
import math

from lmx.backends.mlx.imports import mx
from lmx.backends.sampling.limits import LARGEST
from lmx.machines.types import Sampling


def filtered(logprobs: mx.array, sampling: Sampling, *, exclude: bool) -> mx.array:
    """What all filters leave. `exclude`: XTC strikes this time."""
    floor = _floor(logprobs, sampling)
    if floor is not None:
        logprobs = mx.where(logprobs < floor, -math.inf, logprobs)
    if 0 < sampling.typical_p < 1:
        logprobs = mx.where(_typical(logprobs, sampling.typical_p), logprobs, -math.inf)
    if exclude:
        logprobs = mx.where(_unlikely(logprobs, sampling.xtc_threshold), logprobs, -math.inf)
    return logprobs


def _floor(logprobs: mx.array, sampling: Sampling) -> mx.array | None:
    """The log-probability below which no token may be drawn; None when all may."""
    floors: list[mx.array] = []
    best = logprobs.max(axis=-1, keepdims=True)
    if sampling.top_n_sigma > 0:
        floors.append(best - sampling.top_n_sigma * _deviation(logprobs))
    if sampling.min_p > 0:
        floors.append(best + math.log(min(sampling.min_p, 1.0)))
    size = logprobs.shape[-1]
    narrow, nucleus = 0 < sampling.top_k < size, 0 < sampling.top_p < 1
    if narrow or nucleus:
        ranked = mx.sort(logprobs, axis=-1)
        if narrow:
            floors.append(ranked[..., size - sampling.top_k : size - sampling.top_k + 1])
        if nucleus:
            floors.append(_nucleus_floor(ranked, sampling.top_p))
    return functools.reduce(mx.maximum, floors) if floors else None


def _deviation(logprobs: mx.array) -> mx.array:
    """The standard deviation of the logits of possible tokens."""
    possible = logprobs > -math.inf
    count = possible.sum(axis=-1, keepdims=True)
    mean = mx.where(possible, logprobs, 0.0).sum(axis=-1, keepdims=True) / count
    squares = mx.where(possible, mx.square(logprobs - mean), 0.0)
    return mx.sqrt(squares.sum(axis=-1, keepdims=True) / count)


def _nucleus_floor(ranked: mx.array, top_p: float) -> mx.array:
    """The smallest of the most likely tokens that together weigh `top_p`; `ranked` rises."""
    mass = mx.exp(ranked)
    above = mx.cumsum(mass, axis=-1, reverse=True, inclusive=False)
    total = above[..., :1] + mass[..., :1]
    dropped = (above >= top_p * total).sum(axis=-1, keepdims=True)
    return mx.take_along_axis(ranked, mx.minimum(dropped, ranked.shape[-1] - 1), axis=-1)


def _typical(logprobs: mx.array, typical_p: float) -> mx.array:
    """The tokens whose surprise is closest to the expected one and that together weigh `typical_p`."""
    total = mx.logsumexp(logprobs, axis=-1, keepdims=True)
    mass = mx.exp(logprobs - total)
    surprise = total - mx.maximum(logprobs, -LARGEST)
    distance = mx.abs(surprise - (mass * surprise).sum(axis=-1, keepdims=True))
    order = mx.argsort(distance, axis=-1)
    closer = mx.cumsum(mx.take_along_axis(mass, order, axis=-1), axis=-1, inclusive=False)
    kept = (closer < typical_p).sum(axis=-1, keepdims=True)
    return distance <= mx.take_along_axis(mx.take_along_axis(distance, order, axis=-1), kept - 1, axis=-1)


def _unlikely(logprobs: mx.array, threshold: float) -> mx.array:
    """All but those tokens of at least `threshold` that are more likely than the last of them."""
    mass = mx.softmax(logprobs, axis=-1)
    last = mx.where(mass >= threshold, logprobs, math.inf).min(axis=-1, keepdims=True)
    return logprobs <= last
