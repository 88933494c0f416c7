"""Every machine by name, drawn by python-statemachine's own formatters."""

from collections.abc import Mapping
from typing import Literal, get_args

from lmx.machines.admission import AdmissionMachine
from lmx.machines.base import Machine
from lmx.machines.crash_loop import CrashLoopMachine
from lmx.machines.loader import LoaderMachine
from lmx.machines.model import ModelMachine
from lmx.machines.pressure import PressureMachine
from lmx.machines.sequence import SequenceMachine
from lmx.machines.server import ServerMachine
from lmx.machines.state_file import StateFileMachine
from lmx.machines.swap import SwapMachine

MACHINES: Mapping[str, type[Machine]] = {
    machine.kind(): machine
    for machine in (
        ModelMachine, LoaderMachine, AdmissionMachine, CrashLoopMachine, ServerMachine, SequenceMachine,
        StateFileMachine, PressureMachine, SwapMachine,
    )
}  # fmt: skip
NAMES = tuple(MACHINES)

Format = Literal["mermaid", "dot", "table"]
FORMATS: tuple[str, ...] = get_args(Format)


def render(name: str, state: str | None, form: str) -> str:
    """Draw machine `name`; with `state`, as an instance that is in it. Unknown names raise KeyError or ValueError."""
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}: expected one of {', '.join(FORMATS)}")
    drawn: Machine | type[Machine] = MACHINES[name]
    if state is not None:
        drawn = MACHINES[name]()
        if state not in drawn.states_map:
            raise ValueError(f"machine {name!r} has no state {state!r}")
        drawn.current_state_value = state
    return format(drawn, "md" if form == "table" else form)
