"""Clients that are gone before they have said all."""

import socket
import struct
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import Serve

HEAD = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/admin/models/m/adapters"])
def test_a_reset_in_the_middle_of_a_body_is_no_fault_of_ours(serve: Serve, path: bytes) -> None:
    """Logged as a request whose client is gone (499), not as an error."""
    server = serve('guide = false\n[models.m]\nbackend = "fake"\n').ready()
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.sendall(HEAD % path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.until(lambda: "".join(server.log), lambda log: '"status": 499' in log)
    assert server.stop() == 0
    assert not [line for line in server.log if '"level": "error"' in line]
