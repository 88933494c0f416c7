"""Why no token can be chosen."""


class NonFiniteLogits(ArithmeticError):
    """There is NaN or infinity where a number belongs.

    `raw`: the model computed it, so what it computed before is not to be trusted either; else settings led to it.
    """

    def __init__(self, message: str, *, raw: bool = True) -> None:
        super().__init__(message)
        self.raw = raw


class ConstraintFault(Exception):
    """The sequence cannot go on under its constraint."""
