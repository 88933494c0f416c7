"""Length-prefixed msgpack frames over a Unix socket: 4 bytes big-endian length, then one msgspec Struct."""

import contextlib
import select
import socket
import struct
import threading
from typing import Generic, TypeVar

import msgspec

In = TypeVar("In")
Out = TypeVar("Out")

MAX_FRAME = 64 * 1024 * 1024
"""Bytes; a longer frame is a broken peer, not a long prompt."""
_LENGTH = struct.Struct(">I")
OFFER_SECONDS = 0.2
"""That an offer waits for another thread which is sending."""


class ProtocolError(Exception):
    """The peer sent something that is no frame of this protocol."""


class TooLargeError(Exception):
    """A frame that the peer would take for a broken protocol: it was not sent."""


class CutOffError(ProtocolError):
    """The peer ended in the middle of a frame: it may have died there."""


class Channel(Generic[In, Out]):
    """One end: any thread may send, one thread receives."""

    def __init__(self, sock: socket.socket, receives: object) -> None:
        """`receives` is the Struct type (or union of them) of incoming frames."""
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(receives)
        self._encoder = msgspec.msgpack.Encoder()
        self._sending = threading.Lock()
        self._buffer = bytearray()

    def send(self, frame: Out) -> None:
        """Block until the frame is in the kernel's hands. Raises TooLargeError, and OSError when the peer is gone."""
        body = self._encoder.encode(frame)
        if len(body) > MAX_FRAME:
            raise TooLargeError(f"{len(body)} bytes")
        with self._sending:
            self._sock.sendall(_LENGTH.pack(len(body)) + body)

    def offer(self, frame: Out) -> bool:
        """Send a small frame if that can be done within 0.2 s: False when another thread sends, or nobody reads.

        Raises OSError when the peer is gone.
        """
        body = self._encoder.encode(frame)
        if not self._sending.acquire(timeout=OFFER_SECONDS):
            return False
        try:
            room = select.poll()
            room.register(self._sock, select.POLLOUT)
            if not room.poll(0):
                return False
            self._sock.sendall(_LENGTH.pack(len(body)) + body)
        finally:
            self._sending.release()
        return True

    def receive(self) -> In | None:
        """The next frame; None when the peer has closed. Raises ProtocolError."""
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes was announced")
        body = self._exactly(length)
        if body is None:
            raise CutOffError("the peer closed in the middle of a frame")
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"a frame cannot be read: {error}") from error

    def hang_up(self) -> None:
        """Let whoever waits in `receive` or `send` see the end; any thread may do so, also after `close`."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _exactly(self, count: int) -> bytes | None:
        """`count` bytes; None at the end of the stream, even inside them."""
        while len(self._buffer) < count:
            try:
                chunk = self._sock.recv(max(65536, count - len(self._buffer)))
            except OSError:  # reset; on macOS also what is no connection any more after `hang_up`
                return None
            if not chunk:
                return None
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
