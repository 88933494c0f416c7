"""How long a quarantine lasts until the model may try again."""

from msgspec import Struct

FIRST_SECONDS = 600.0
LONGEST_SECONDS = 3600.0


class Probation(Struct):
    """Each trial that fails doubles the time until the next one, up to an hour."""

    seconds: float = FIRST_SECONDS
    """From the start of the quarantine to its next trial."""
    on_trial: bool = False
    """The quarantine's time was over, and the model has not passed its canary since."""

    def quarantined(self) -> None:
        self.seconds = min(2 * self.seconds, LONGEST_SECONDS) if self.on_trial else FIRST_SECONDS
        self.on_trial = False

    def try_again(self) -> None:
        self.on_trial = True
