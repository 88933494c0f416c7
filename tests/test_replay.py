"""A replay says whether the machines and policies would decide otherwise today."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lmx.actors.messages.journal import Entry
from lmx.actors.scribe import Scribe
from lmx.cli import run
from lmx.journal_reader import every
from lmx.machines import canary
from lmx.machines.crash_loop import unclean_starts
from lmx.machines.model import ModelMachine
from lmx.machines.record import policy
from lmx.machines.server import ServerMachine
from lmx.replay import Report, replay
from lmx.system import SystemClock
from tests.support.inbox import Inbox
from tests.support.records import decided, moved, write

DIES = {"now": 100.5, "chance": 0.25, "healthy": 0.0}
LOAD = ("request", "granted", "loaded", "warmed", "canary_passed")


def told(act: Callable[[Scribe], None]) -> list[Any]:
    """What a scribe tells while it acts."""
    inbox: Inbox[Any] = Inbox()
    act(Scribe("model:m", inbox, SystemClock(), strict=True))
    return inbox.messages


def crashes(scribe: Scribe) -> None:
    """A model that is loaded and dies until it is quarantined."""
    machine = ModelMachine()
    scribe.started(machine)
    for event in LOAD[:1]:
        scribe.step(machine, event, "Somebody asks.", {})
    while machine.current != "quarantined":
        for event in LOAD[1:]:
            scribe.step(machine, event, "", {})
        scribe.step(machine, "worker_exited", "It was killed.", DIES | {"cause": "killed"})
        if machine.current == "backoff":
            scribe.step(machine, "retry", "", {})


def again(path: Path, records: list[Any]) -> Report:
    write(path, records)
    return replay(every(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_a_life_goes_the_same_way_again(path: Path) -> None:
    """Budgets, refusals and delays come out of the recorded data as they did then."""
    report = again(path, told(crashes))
    assert report.divergence is None
    life = report.lives[1, "model:m"]
    assert (life.machine, life.state) == ("model", "quarantined")
    assert life.events == report.events > 20
    assert life.path[-3:] == ["canary", "ready", "quarantined"]


def edited(path: Path, change: Callable[[Entry], Entry | None]) -> Report:
    """Of the crashes, with one entry changed."""
    write(path, told(crashes))
    return replay(change(entry) or entry for entry in every(path))


@pytest.mark.parametrize(
    ("field", "then", "today"),
    [
        ("target", "unloaded", "quarantined"),
        ("effects", ["GiveBackMemory"], None),
        ("memory", {}, None),
    ],
)
def test_the_first_difference_is_named(path: Path, field: str, then: Any, today: Any) -> None:
    """Which entry, which part of it, what was recorded, and what happens today."""

    def change(entry: Entry) -> Entry | None:
        if entry.target != "quarantined":
            return None
        return replace(entry, **{field: then})

    apart = edited(path, change).divergence
    assert apart is not None
    assert (apart.what, apart.recorded) == (field, then)
    assert apart.entry.event == "worker_exited"
    assert apart.today == today or today is None


def test_an_event_that_is_not_allowed_today_is_a_difference(path: Path) -> None:
    """The machines have changed: that is what a replay is for."""
    start = moved(event="", source="", target="unloaded", memory={})
    apart = again(path, [start, moved(event="explode")]).divergence
    assert apart is not None
    assert (apart.what, apart.today) == ("event", "not allowed in unloaded")


def test_a_machine_that_is_not_there_today_is_a_difference(path: Path) -> None:
    """It cannot be revived."""
    apart = again(path, [moved(event="", source="", target="on", machine="lamp")]).divergence
    assert apart is not None
    assert (apart.what, apart.recorded) == ("machine", "lamp")


def test_a_machine_begins_at_its_first_entry_wherever_that_is(path: Path) -> None:
    """Pruning takes the beginnings away; each entry holds the memory that a machine has after it."""
    records = told(crashes)
    for cut in range(1, len(records)):
        report = replay(every_of(path.with_name(f"{cut}.db"), records[cut:]))
        assert report.divergence is None
        assert report.events == len(records) - cut - 1


def every_of(path: Path, records: list[Any]) -> list[Entry]:
    write(path, records)
    return list(every(path))


def test_after_a_gap_machines_begin_anew(path: Path) -> None:
    """What was dropped may have moved any of them."""
    entries = every_of(path, told(crashes))
    gap = Entry(seq=0, run=1, at=0.0, kind="dropped", actor="journal", event="5")
    report = replay([*entries[:4], gap, *entries[9:]])
    assert report.divergence is None
    assert report.dropped == 5
    assert report.events == len(entries) - 5 - 2
    without_gap = replay([*entries[:4], *entries[9:]]).divergence
    assert without_gap is not None
    assert without_gap.what == "source"


def test_runs_are_apart(path: Path) -> None:
    """The same actor lives anew with each start of the daemon."""
    records = told(crashes)
    write(path, records)
    report = again(path, records)
    assert report.divergence is None
    assert list(report.lives) == [(1, "model:m"), (2, "model:m")]


def test_what_could_not_be_written_down_is_left_out(path: Path) -> None:
    """It is counted, and the machine goes on with the next entry that is whole."""
    records = told(crashes)
    entries = every_of(path, records)
    report = replay(replace(entry, exact=False, data={}) if entry.seq == 5 else entry for entry in entries)
    assert report.divergence is None
    assert report.inexact == 1
    assert report.events == len(records) - 3


def test_policies_are_asked_again(path: Path) -> None:
    """Inputs become what the function's hints say, and the outcomes are compared with the names of their types."""

    def asks(scribe: Scribe) -> None:
        scribe.ask(unclean_starts, starts=[1.0, 59.0], now=60.0)
        scribe.ask(canary.lead, logprobs=(-0.25, -1.5))

    report = again(path, told(asks))
    assert report.divergence is None
    assert report.decisions == 2
    apart = again(path, [decided(outcome=3)]).divergence
    assert apart is not None
    assert (apart.what, apart.recorded, apart.today) == ("outcome", 3, 2)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "lmx.machines.crash_loop.Sequence",
        "lmx.machines.crash_loop.nothing",
        "lmx.machines.nowhere.plan",
        "lmx.machines.restart.RestartBudget",
        "lmx.machines.record.import_module",
        "lmx.cli.run",
    ],
)
def test_only_functions_of_the_machines_are_ever_called(path: Path, name: str) -> None:
    """A journal that somebody sends is no way to run something else."""
    with pytest.raises(LookupError):
        policy(name)
    apart = again(path, [decided(policy=name)]).divergence
    assert apart is not None
    assert apart.what == "policy"


def test_a_policy_that_wants_other_inputs_today_is_a_difference(path: Path) -> None:
    """Its inputs do not fit."""
    apart = again(path, [decided(inputs={"starts": "soon"})]).divergence
    assert apart is not None
    assert "starts" in apart.today


def test_the_command_says_what_it_found(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and the final states; 1 and the first difference; 64 for what is no journal."""
    write(path, told(crashes))
    assert run(["replay", str(path)]) == 0
    said = capsys.readouterr().out
    assert "model:m" in said
    assert "quarantined" in said
    assert "would be the same today" in said
    write(path, [decided(outcome=3)])
    assert run(["replay", str(path), "--run", "1"]) == 0
    assert run(["replay", str(path)]) == 1
    said = capsys.readouterr().out
    assert "outcome as recorded: 3" in said
    assert "outcome today:       2" in said
    assert run(["replay", str(path.with_name("none.db"))]) == 64
    path.write_text("text")
    assert run(["replay", str(path)]) == 64
    assert "Traceback" not in capsys.readouterr().err


def test_the_journal_is_shown_to_people_and_to_programs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each entry, with the reason; JSON on demand."""
    write(path, [moved(1), decided(), moved(2, actor="model:n")])
    assert run(["journal", "--file", str(path)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert "unloaded → queued  on request: number 1" in first
    assert 'asks lmx.machines.crash_loop.unclean_starts{"starts": [1.0, 59.0], "now": 60.0}: 2' in second
    assert "model:n" in third
    assert run(["journal", "--file", str(path), "-n", "1", "--kind", "event", "--json"]) == 0
    assert '"actor":"model:n"' in capsys.readouterr().out
    assert run(["journal", "--file", str(path), "--kind", "poem"]) == 64


def test_constructor_data_is_part_of_the_memory() -> None:
    """A machine that was made with settings of its own is revived with them."""
    server = ServerMachine(12.5)
    server.step("start")
    revived = ServerMachine.revived("draining", server.memory())
    deadline = revived.deadline()
    assert deadline is not None
    assert deadline.seconds == 12.5
