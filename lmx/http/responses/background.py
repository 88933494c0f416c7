"""Responses that are made while nobody waits for them."""

import asyncio

import structlog
from aiohttp import web

from lmx.http.errors import ApiError, internal
from lmx.http.exchange import Exchange
from lmx.http.responses.making import Making
from lmx.http.responses.reply import Response


class Background:
    """Those of one server, by id."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Making, asyncio.Task[None]]] = {}

    def start(self, making: Making, exchange: Exchange) -> None:
        id = making.response.id
        making.keep()
        task = asyncio.create_task(_make(making, exchange), name=id)
        self._running[id] = making, task
        task.add_done_callback(self._over)

    def __contains__(self, id: str) -> bool:
        return id in self._running

    def _over(self, task: asyncio.Task[None]) -> None:
        """Also when it broke, which is a fault of ours: nobody is left in the dark."""
        id = task.get_name()
        making, _ = self._running.pop(id)
        if not task.cancelled() and (error := task.exception()) is not None:
            structlog.get_logger().error("background_response_broke", response=id, exc_info=error)
            making.fail(internal())

    async def cancel(self, owner: str, id: str) -> Response | None:
        """As it is then; None when this owner has none of that id at work."""
        making, task = self._running.get(id, (None, None))
        if making is None or task is None or making.owner != owner:
            return None
        await _gone(task)
        return making.cancel() if task.cancelled() else making.response

    async def close(self, _: web.Application) -> None:
        """Signal `on_shutdown`: those that are still at work are given up."""
        for making, task in list(self._running.values()):
            await _gone(task)
            if task.cancelled():
                making.fail(ApiError(503, "The server was stopped before the response was finished."))


async def _make(making: Making, exchange: Exchange) -> None:
    try:
        async with exchange:
            await making.collect()
    except ApiError as error:
        making.fail(error)


async def _gone(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


BACKGROUND = web.AppKey("background", Background)
