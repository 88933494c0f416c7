"""What the journal knows of every machine, as the routes read it."""

from collections.abc import Mapping

from aiohttp import web

from lmx.actors.messages.journal import Board, MachineView, Read
from lmx.http.errors import ApiError
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import ask

SERVER = "server"
MODEL = "model:"
MEMORY = "memory"
LOADER = "loader"
ADMISSION = "admission"
ALIAS = "alias:"


async def read(request: web.Request) -> Board:
    """TimeoutError when the journal does not answer in time."""
    gateway = request.app[GATEWAY]
    return await ask(gateway.journal, Read, gateway.board_seconds)


async def require(request: web.Request) -> Board:
    try:
        return await read(request)
    except TimeoutError as error:
        raise ApiError(503, "The journal does not answer.", "journal_silent") from error


def by_actor(board: Board) -> Mapping[str, MachineView]:
    return {view.actor: view for view in board.machines}


def why(view: MachineView) -> str:
    """Why a model's machine is where it is. A quarantine of before the start has its own reason, not that start."""
    barred = view.facts.get("quarantine") if view.state == "quarantined" else None
    return str(barred or view.reason)
