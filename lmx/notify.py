"""What systemd wants to hear of a service with `Type=notify`: lines in a datagram to the socket NOTIFY_SOCKET names."""

import os
import socket
from collections.abc import Mapping

import structlog


class Notify:
    """Tells the service manager how the daemon is; without one, does nothing. Never blocks, never raises."""

    def __init__(self, address: str = "", beat_seconds: float | None = None) -> None:
        """`address` is a path, or a name in the abstract namespace as `@name`; empty = nobody listens."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._beat_seconds = beat_seconds
        self._next_beat = 0.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Notify":
        """By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them."""
        period, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        beat = int(period) / 2_000_000 if ours and period.isascii() and period.isdigit() and int(period) else None
        return cls(environ.get("NOTIFY_SOCKET", ""), beat)

    def ready(self, status: str) -> None:
        """It listens."""
        self._send("READY=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self, now: float) -> None:
        """To be called often while everything answers (`now` in seconds): twice in each period it is passed on."""
        if self._beat_seconds is not None and now >= self._next_beat:
            self._next_beat = now + self._beat_seconds
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            structlog.get_logger().warning("service_manager_unreachable", error=str(error), lines=lines)
