"""The load client, a process of its own: sends requests, stamps every piece that comes, and parses when all is over.

On a small machine the client competes with the server for the cores, so that while it measures it does nothing but
read: bytes are kept as they are, and no collection of garbage runs.
"""

import asyncio
import gc
import json
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import aiohttp

from lmx.bench.wire import Answer, Answers, Ask, Plan, obey

SECONDS = 900.0
"""One request may take so long."""

Piece = tuple[float, bytes]


class Exchange:
    """One request under way; others can wait for its pieces or its end."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.sent = self.ended = 0.0
        self.pieces: list[Piece] = []
        self.status = 200
        self.fault = ""
        self._wanted = 0
        self._reached = asyncio.Event()

    async def reached(self, pieces: int) -> None:
        """Wait for so many pieces, or the end."""
        self._wanted = pieces
        if len(self.pieces) < pieces:
            await self._reached.wait()

    async def run(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
        body = json.dumps(self.ask.body).encode()
        self.sent = perf_counter()
        try:
            async with session.post(url + self.ask.path, data=body, headers=headers) as response:
                self.status = response.status
                while piece := await response.content.readany():
                    self.pieces.append((perf_counter(), piece))
                    if len(self.pieces) == self._wanted:
                        self._reached.set()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.fault = str(error) or type(error).__name__
        finally:
            self.ended = perf_counter()
            self._reached.set()


async def carry_out(plan: Plan) -> Answers:
    """Run all requests of a plan and tell what came of each, in the plan's order."""
    exchanges = [Exchange(ask) for ask in plan.asks]
    headers = {"Content-Type": "application/json"}
    if plan.key:
        headers["Authorization"] = f"Bearer {plan.key}"
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        began = perf_counter()
        tasks = [asyncio.create_task(_in_turn(one, exchanges, session, plan.url, headers)) for one in exchanges]
        for one, task in zip(exchanges, tasks, strict=True):
            if one.ask.until is not None:
                tasks[one.ask.until].add_done_callback(lambda _, task=task: task.cancel())  # type: ignore[misc]
        await asyncio.gather(*tasks, return_exceptions=True)
    return Answers(tuple(_answer(one, began) for one in exchanges))


async def _in_turn(
    one: Exchange, all_: Sequence[Exchange], session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> None:
    if one.ask.after is not None:
        other, pieces = one.ask.after
        await all_[other].reached(pieces)
    await one.run(session, url, headers)


def _answer(one: Exchange, began: float) -> Answer:
    """Read the pieces of one request as server-sent events."""
    sent, ended = one.sent - began, one.ended - began
    if one.status != 200 or one.fault:
        said = b"".join(piece for _, piece in one.pieces).decode("utf-8", "replace")
        return Answer(sent=sent, ended=ended, error=one.fault or f"{one.status} {said[:300]}")
    stamps: list[float] = []
    text: list[str] = []
    usage: dict[str, Any] = {}
    fault = ""
    for stamp, event in _events(one.pieces):
        usage = event.get("usage") or usage
        fault = fault or str(event.get("error") or "")
        if words := _words(event):
            stamps.append(stamp - began)
            text.append(words)
    prompt, tokens, cached = _counts(usage, len(stamps))
    return Answer(
        sent=sent,
        ended=ended,
        stamps=stamps,
        prompt=prompt,
        tokens=tokens,
        cached=cached,
        text="".join(text),
        error=fault,
    )


def _events(pieces: Sequence[Piece]) -> Iterator[tuple[float, dict[str, Any]]]:
    """Every `data:` line that holds JSON, with the time when its last byte came."""
    rest = b""
    for stamp, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data.startswith(b"{"):
                yield stamp, json.loads(data)


def _words(event: dict[str, Any]) -> str:
    """The text of a chunk, of either route and of thinking as well."""
    words = ""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        fields = (delta.get("content"), delta.get("reasoning_content"), delta.get("reasoning"), choice.get("text"))
        words += next((field for field in fields if field), "")
    return words


def _counts(usage: dict[str, Any], chunks: int) -> tuple[int, int, int]:
    """Tokens of the prompt, written, and cached; a server that does not count has written one token a chunk."""
    details = usage.get("prompt_tokens_details") or {}
    written = usage.get("completion_tokens") or chunks
    return int(usage.get("prompt_tokens") or 0), int(written), int(details.get("cached_tokens") or 0)


def main() -> None:
    gc.disable()
    with asyncio.Runner() as runner:
        obey(Plan, lambda plan: _collected(runner.run(carry_out(plan))))


def _collected(answers: Answers) -> Answers:
    gc.collect()
    return answers


if __name__ == "__main__":
    main()
