"""Whether guessing tokens pays now, and how many at a time."""

from lmx.backends.lookup import Odds

ASSUMED = 0.25
"""What one more token in a step costs, as a share of a row's step, before it was measured (a GPU pays less)."""
WORTH = 1.05
"""A step with guesses must yield so many times more tokens a second than one without."""
SHARE = 0.02
"""How much of all time may be lost by wrong guesses."""
CREDIT, MOST_CREDIT = 1.0, 2.0
"""Steps that may be lost at the start; and that may be saved up by right guesses."""
PROBE, SHORTEST_PAUSE, LONGEST_PAUSE = 2, 8, 256
"""Guesses made only to learn odds and costs, and the steps between them."""
PROBE_ODDS = 0.5
"""Where they are known to be worse, nothing is to be learnt."""
REMEASURE = 64
"""After so many steps with guesses one goes without, to see what that costs by now."""


class Gate:
    """One for a backend; pure and deterministic.

    The model: a step of `rows` rows takes plain(rows) + guesses · more, both learnt from steps' times, and yields
    `rows` tokens and the guesses that were right. So many guesses are wanted as give the most tokens a second.
    An account keeps it honest: it gains 2 % of a step with each step, and pays for guesses what they cost less what
    they won; while it is empty nothing is guessed.
    """

    def __init__(self, draft_tokens: int) -> None:
        self._draft_tokens = draft_tokens
        self._plain: dict[int, float] = {}
        self._more: float | None = None
        self._account = CREDIT
        self._hits, self._tries = 0.5, 1.0
        self._reach = PROBE
        self._pause, self._since, self._streak = SHORTEST_PAUSE, SHORTEST_PAUSE, 0
        self.drafted = 0
        self.accepted = 0

    @property
    def speculating(self) -> bool:
        """Whether it guessed lately."""
        return self._since < SHORTEST_PAUSE

    def want(self, rows: int, odds: Odds | None = None) -> int:
        """How many tokens to guess for one of `rows` rows in the next step; 0 = none.

        With `odds` (a Lookup) they are known beforehand. Without (a draft model), they are learnt from what was
        accepted: by short guesses with growing pauses between them, and longer ones as long as all are right.
        """
        if rows < 1 or self._streak >= REMEASURE or self._account < 0:
            return 0
        limit = self._reach if odds is None else self._draft_tokens
        wanted = self._best(rows, odds or self, limit)
        if wanted or self._since < self._pause or (odds is not None and odds.odds(0) < PROBE_ODDS):
            return wanted
        return min(PROBE, self._draft_tokens)

    def odds(self, index: int) -> float:
        """Of a guess without odds of its own."""
        return self._hits / self._tries

    def observe(self, rows: int, drafted: int, accepted: int, seconds: float | None) -> None:
        """What the latest step did, over all rows; `seconds` is None when it also read a prompt."""
        if drafted:
            self.drafted += drafted
            self.accepted += accepted
            self._learn(rows, drafted, accepted)
            self._since, self._streak = 0, self._streak + 1
        else:
            self._since, self._streak = self._since + 1, 0
        if rows and seconds is not None:
            self._time(rows, drafted, seconds)
        gain = accepted / rows - drafted * self._cost(rows) if drafted else SHARE
        self._account = min(MOST_CREDIT, self._account + gain)

    def _cost(self, rows: int) -> float:
        """What a guess costs, as a share of a step without any."""
        plain = self._plain.get(rows)
        return ASSUMED / (1 + ASSUMED * (rows - 1)) if self._more is None or not plain else self._more / plain

    def _best(self, rows: int, odds: Odds, limit: int) -> int:
        """The number of guesses that gives the most tokens a second; 0 when that is hardly more than without."""
        best, most, cost = 0, WORTH * rows, self._cost(rows)
        gained, likely = 0.0, 1.0
        for count in range(1, limit + 1):
            likely *= odds.odds(count - 1)
            gained += likely
            rate = (rows + gained) / (1 + count * cost)
            if rate > most:
                best, most = count, rate
            elif likely * rows < cost:
                break
        return best

    def _learn(self, rows: int, drafted: int, accepted: int) -> None:
        tried = min(drafted, accepted + 1)
        self._hits, self._tries = 0.8 * self._hits + accepted, 0.8 * self._tries + tried
        full = accepted == drafted
        self._reach = min(self._draft_tokens, max(PROBE, 2 * drafted if full else accepted + 1))
        paid = accepted > drafted * rows * self._cost(rows)
        self._pause = SHORTEST_PAUSE if paid else min(LONGEST_PAUSE, 2 * self._pause)

    def _time(self, rows: int, drafted: int, seconds: float) -> None:
        plain = self._plain.get(rows)
        if not drafted:
            self._plain[rows] = seconds if plain is None else plain + 0.2 * (seconds - plain)
        elif plain:
            more = min(plain, max(0.0, seconds - plain) / drafted)
            before = more if self._more is None else self._more
            # A price that is too low is found out by paying it, one that is too high hardly ever: follow a fall faster.
            self._more = before + (0.2 if more > before else 0.5) * (more - before)
