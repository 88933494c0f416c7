"""Prompts that come again: how much of them is not read a second time, what is told of it, and what a restart keeps."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import CHAT, FILES, Asking, Json, cached, guide, serving, text_of, user
from tests.support.guide import taught
from tests.support.server import Server

BACKENDS = tuple(FILES)
PAIRS = taught()
QUESTION, OTHER = PAIRS[0][0], PAIRS[40][0]
BILLING = "x-anthropic-billing-header: cc_version=2.1; cch={};\n"


def system(number: int) -> str:
    """A message of some 300 tokens; with another number another one from its beginning on."""
    return f"Case {number}. " + " ".join(answer for _, answer in PAIRS[number * 7 :: 97][:14])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tables = [guide(name, file, context=1024, slots=4, disk_cache_bytes=0) for name, file in FILES.items()]
    with serving(tmp_path_factory.mktemp("known"), *tables) as started:
        yield started


@pytest.fixture
def asking(server: Server, model: str) -> Asking:
    return Asking(server.url, model=model, temperature=0, max_tokens=40, lmx_cache=True)


def tokens(reply: Json) -> int:
    return int(reply["usage"]["prompt_tokens"])


@pytest.mark.parametrize("model", BACKENDS)
async def test_a_common_system_message_is_read_once(asking: Asking) -> None:
    """The second question after the same 300 tokens has 95 % of them cached, whole or streamed, and says why."""
    async with asking as client:
        first = await client.ok(CHAT, messages=user(QUESTION, system(1)))
        alone = await client.ok(CHAT, messages=user(OTHER), lmx_cache=False)
        second = await client.ok(CHAT, messages=user(OTHER, system(1)))
        chunks = client.chunks(CHAT, messages=user(OTHER, system(1)), stream_options={"include_usage": True})
        *_, finish, last = [chunk async for chunk in chunks]
    assert cached(first) == 0
    assert tokens(first) > 300
    common = tokens(second) - tokens(alone)
    assert common > 280
    assert cached(second) >= 0.95 * common
    report = second["lmx_cache"]
    assert report == {
        "cached_tokens": cached(second),
        "prompt_tokens": tokens(second),
        "cause": "changed",
        "first_difference": report["first_difference"],
        "message": 1,
    }
    assert common <= report["first_difference"] < tokens(second)
    assert cached(last) == tokens(last) - 1
    assert finish["lmx_cache"]["cause"] == "hit"
    assert "lmx_cache" not in alone


@pytest.mark.parametrize("model", BACKENDS)
async def test_the_message_that_differs_is_named(asking: Asking) -> None:
    """A dialog whose third message was edited: everything before it is known, and the report says which it was."""
    dialog = [
        *user(QUESTION, system(2)),
        {"role": "assistant", "content": PAIRS[0][1]},
        *user(OTHER),
        {"role": "assistant", "content": PAIRS[40][1]},
        *user("What is a slot?"),
    ]
    edited = [*dialog[:3], *user("Who are you?"), *dialog[4:]]
    async with asking as client:
        await client.ok(CHAT, messages=dialog)
        reply = await client.ok(CHAT, messages=edited)
        again = await client.ok(CHAT, messages=edited)
        unknown = await client.ok(CHAT, messages=user("What is a slot?"))
    assert reply["lmx_cache"]["cause"] == "changed"
    assert reply["lmx_cache"]["message"] == 3
    assert 0 < cached(reply) <= reply["lmx_cache"]["first_difference"] < tokens(reply)
    assert again["lmx_cache"]["cause"] == "hit"
    assert text_of(again) == text_of(reply)
    assert unknown["lmx_cache"]["cause"] in ("first_use", "short", "changed")
    assert cached(unknown) == 0


@pytest.mark.parametrize("model", BACKENDS)
async def test_an_answer_is_known_in_the_next_turn(asking: Asking) -> None:
    """The model's own words need not be read when they come back as history."""
    asked = user(QUESTION, system(3))
    async with asking as client:
        first = await client.ok(CHAT, messages=asked)
        turns = [*asked, {"role": "assistant", "content": text_of(first)}, *user(OTHER)]
        second = await client.ok(CHAT, messages=turns)
    assert cached(second) >= tokens(first) + first["usage"]["completion_tokens"] - 2


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("parts", [False, True])
async def test_a_billing_line_breaks_nothing(asking: Asking, parts: bool) -> None:
    """The line that coding agents change in every request is no part of the prompt, in a string or in a part."""

    def asked(number: int) -> list[Json]:
        line, text = BILLING.format(f"{number:05x}"), system(4 + parts)
        content = [{"type": "text", "text": line}, {"type": "text", "text": text}] if parts else line + text
        return [{"role": "system", "content": content}, *user(QUESTION)]

    async with asking as client:
        first = await client.ok(CHAT, messages=asked(1))
        second = await client.ok(CHAT, messages=asked(77_777))
        plain = await client.ok(CHAT, messages=user(QUESTION, system(4 + parts)))
    assert cached(first) == 0
    assert second["lmx_cache"]["cause"] == plain["lmx_cache"]["cause"] == "hit"
    assert cached(second) == cached(plain) == tokens(plain) - 1
    assert text_of(first) == text_of(second) == text_of(plain)


# --- the disk --------------------------------------------------------------------------------------------------------


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "state").rglob("*.kv"))


async def ask(server: Server, model: str) -> Json:
    asked = user(QUESTION, system(6))
    async with Asking(server.url, model=model, temperature=0, max_tokens=40, lmx_cache=True) as client:
        return await client.ok(CHAT, messages=asked)


@pytest.mark.slow
@pytest.mark.parametrize("model", BACKENDS)
async def test_a_restart_keeps_what_was_read(tmp_path: Path, model: str) -> None:
    """After SIGTERM and a start with the same state_dir the prompt is cached, and answered alike."""
    table = guide(model, FILES[model], context=1024, slots=4)
    with serving(tmp_path, table) as server:
        first = await ask(server, model)
    assert cached(first) == 0
    assert kept(tmp_path)
    with serving(tmp_path, table) as server:
        second = await ask(server, model)
    assert cached(second) >= 0.95 * tokens(first)
    assert second["lmx_cache"]["cause"] == "hit"
    assert text_of(second) == text_of(first)


def harm(file: Path, chance: random.Random) -> None:
    """A byte of the payload is another one."""
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data) // 2, len(data))] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("model", BACKENDS)
async def test_damaged_files_are_ignored(tmp_path: Path, model: str) -> None:
    """A flipped byte, a file that was cut off and one of rubbish: the prompt is read again, and answered alike."""
    chance = random.Random(1)
    table = guide(model, FILES[model], context=1024, slots=4)
    with serving(tmp_path, table) as server:
        first = await ask(server, model)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    harm(file, chance)
    file.with_stem("0" * len(file.stem)).write_bytes(whole[: len(whole) // 2])
    file.with_stem("1" * len(file.stem)).write_bytes(b"rubbish")
    with serving(tmp_path, table) as server:
        second = await ask(server, model)
        third = await ask(server, model)
        assert server.machine(f"model:{model}")["facts"]["restarts"] == 0
    assert cached(second) == 0
    assert text_of(second) == text_of(third) == text_of(first)
    assert cached(third) == tokens(third) - 1
