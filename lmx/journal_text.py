"""`lmx journal` and `lmx replay`: what people see of entries and reports."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from lmx.actors.messages.journal import KINDS, Entry
from lmx.journal_reader import Filter, after, every, latest
from lmx.replay import Report, replay

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
POLL = 0.5
"""Seconds between two looks at a journal that is followed."""
SHOWN = 300
"""Characters of JSON that are shown to people."""


def moment(text: str, now: float) -> float:
    """Unix time of `10m` (s, m, h, d ago) or of a date in ISO 8601. Raises ValueError."""
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return now - float(ago[1]) * UNITS[ago[2]]
    return datetime.fromisoformat(text).timestamp()


def wanted(since: str, actor: str, kind: str, now: float) -> Filter:
    """Raises ValueError, in a sentence."""
    if kind and kind not in KINDS:
        raise ValueError(f"There is no kind {kind}, expected one of {', '.join(KINDS)}.")
    try:
        return Filter(actor, kind, at_least=moment(since, now) if since else 0.0)
    except ValueError:
        raise ValueError(f"--since {since}: expected 10m, 2h, 3d or a date as 2026-01-31T12:00.") from None


def show(path: Path, wanted: Filter, count: int, *, follow: bool, as_json: bool, out: Callable[[str], None]) -> None:
    """Tell `out` a line for each of the last `count` entries, and for those that come. Raises UnreadableError."""
    line = as_line if as_json else as_text
    page = latest(path, count, wanted)
    for entry in page.entries:
        out(line(entry))
    while follow:
        page = after(path, page.cursor, 1000, wanted)
        for entry in page.entries:
            out(line(entry))
        if not page.entries:
            time.sleep(POLL)


def as_line(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


def as_text(entry: Entry) -> str:
    when = datetime.fromtimestamp(entry.at).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
    return f"{when}  {entry.actor:<16}  {_what(entry)}"


def _what(entry: Entry) -> str:
    match entry.kind:
        case "start":
            return f"starts {entry.target}"
        case "event":
            moved = entry.target if entry.source == entry.target else f"{entry.source} → {entry.target}"
            effects = f"  {_shown(entry.effects)}" if entry.effects else ""
            return f"{moved}  on {entry.event}{': ' if entry.reason else ''}{entry.reason}{effects}"
        case "decision":
            return f"asks {entry.event}{_shown(entry.data)}: {_shown(entry.effects)}"
        case "dropped":
            return f"{entry.event} records are missing here: the disk was too slow"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def run_again(path: Path, run: int | None) -> Report:
    """Raises UnreadableError."""
    return replay(every(path, Filter(run=run)))


def as_report(report: Report) -> Iterator[str]:
    """Lines: how each machine ended, what was compared, and the first divergence."""
    runs = dict.fromkeys(run for run, _ in report.lives)
    for (run, actor), life in report.lives.items():
        place = f"run {run}  " if len(runs) > 1 else ""
        yield f"{place}{actor:<16}  {life.state:<12}  {life.events:>5} events  {' → '.join(life.path)}"
    left_out = f", {report.inexact} could not be asked again" if report.inexact else ""
    lost = f", {report.dropped} were lost" if report.dropped else ""
    yield f"{report.events} events and {report.decisions} decisions were gone through{left_out}{lost}."
    if report.divergence is None:
        yield "All of them would be the same today."
        return
    apart = report.divergence
    yield f"Entry {apart.entry.seq} would not be the same today:"
    yield f"  {as_text(apart.entry)}"
    yield f"  {apart.what} as recorded: {_shown(apart.recorded)}"
    yield f"  {apart.what} today:       {_shown(apart.today)}"
