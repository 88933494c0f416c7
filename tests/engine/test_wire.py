"""Frames over a socket pair."""

import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmx.engine.wire import MAX_FRAME, Channel, ProtocolError, TooLargeError
from lmx.machines import frames
from lmx.machines.types import Chat, Generation, Sampling, Text, Tokens

Pair = tuple[socket.socket, Channel[frames.Command, frames.Report]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Channel(theirs, frames.Command)


GENERATIONS = [
    Generation(prompt=Chat(({"role": "user", "content": "grüß dich \x00 😀"},)), stop=("a", "b"), audit=True),
    Generation(prompt=Tokens((1, 2, 3)), sampling=Sampling(seed=2**63 - 1, logit_bias={5: -100.0})),
]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_frames_arrive_as_they_were_sent(pair: Pair, generation: Generation) -> None:
    """Every value of a frame survives the wire."""
    sock, channel = pair
    sender: Channel[frames.Report, frames.Command] = Channel(sock, frames.Report)
    for frame in (frames.Insert(7, generation), frames.Cancel(7), frames.Shutdown()):
        sender.send(frame)
        assert channel.receive() == frame


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_frames_survive_any_cut(pair: Pair, sizes: list[int]) -> None:
    """However the bytes are cut on their way, the frames are the same."""
    sock, channel = pair
    body = msgspec.msgpack.encode(frames.Insert(1, GENERATIONS[0]))
    data = (len(body).to_bytes(4, "big") + body) * 3

    def drip() -> None:
        at, turn = 0, 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            sock.sendall(data[at : at + size])
            at, turn = at + size, turn + 1

    thread = threading.Thread(target=drip)
    thread.start()
    assert [channel.receive() for _ in range(3)] == [frames.Insert(1, GENERATIONS[0])] * 3
    thread.join()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((MAX_FRAME + 1).to_bytes(4, "big"), "was announced"),
        (b"\x00\x00\x00\x03\xc1\xc1\xc1", "cannot be read"),
        (b"\x00\x00\x00\x09\x82", "in the middle"),
    ],
)
def test_what_is_no_frame_is_a_protocol_error(pair: Pair, data: bytes, words: str) -> None:
    """Garbage, half a frame and a giant one are told apart from the peer's end, and cost no memory."""
    sock, channel = pair
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolError, match=words):
        channel.receive()


def test_what_the_peer_would_not_take_is_not_sent(pair: Pair) -> None:
    """The sender knows it first, and the next frame arrives as if nothing had been."""
    sock, channel = pair
    sender: Channel[frames.Report, frames.Command] = Channel(sock, frames.Report)
    with pytest.raises(TooLargeError, match=r"^\d+ bytes$"):
        sender.send(frames.Insert(1, Generation(prompt=Text("x" * MAX_FRAME))))
    sender.send(frames.Cancel(7))
    assert channel.receive() == frames.Cancel(7)


def test_the_end_of_the_stream_is_none(pair: Pair) -> None:
    """A closed peer is no error."""
    sock, channel = pair
    sock.close()
    assert channel.receive() is None


def test_a_connection_that_is_none_any_more_has_ended(pair: Pair) -> None:
    """Whatever the system calls it: a thread that reads must get to what comes after the end."""
    _, channel = pair
    channel.close()
    assert channel.receive() is None
