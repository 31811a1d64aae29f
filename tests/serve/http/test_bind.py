"""What replies wait for: nothing."""

from __future__ import annotations

import socket

from sd2rt.serve.server import bind


def test_connections_send_small_packets_at_once() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
