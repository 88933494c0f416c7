"""Bounds on what clients may send, so that no setting makes a finite logit infinite."""

import math

LARGEST = 1e9
"""Beyond any distance between two logits, and far enough below the end of float32."""


def bounded(value: float) -> float:
    """`value`, or the nearest number that is safe to add to a logit. -inf stays: it excludes a token."""
    return value if value == -math.inf else min(max(value, -LARGEST), LARGEST)


def bounded_factor(value: float) -> float:
    """`value`, or the nearest number that is safe to multiply and divide a logit by."""
    return min(max(value, 1 / LARGEST), LARGEST)
