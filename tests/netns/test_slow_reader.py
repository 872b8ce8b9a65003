"""A reader that does not read stops its writer; it does not fill Limpid's memory."""

import selectors
import socket
import threading

import pytest

from limpid_process import is_sanitized
from peers import Background, bytes_of, read_exactly

FLOWS = 16
PER_FLOW_BYTES = 512 * 1024  # what Limpid may hold of its own for a blocked direction
UNREASONABLE = 48 << 20  # more than the kernel's own socket buffers together can hold, as the lab sets them


def fill(senders, block):
    """Writes to all of them until none has taken a byte for half a second. Returns how much each took."""
    taken = dict.fromkeys(senders, 0)
    with selectors.DefaultSelector() as selector:
        for sender in senders:
            sender.setblocking(False)
            selector.register(sender, selectors.EVENT_WRITE)
        while ready := selector.select(timeout=0.5):
            for key, _ in ready:
                try:
                    taken[key.fileobj] += key.fileobj.send(block)
                except BlockingIOError:
                    continue
                assert taken[key.fileobj] < UNREASONABLE, "the writer is never stopped"
    return taken


@pytest.mark.parametrize("writer", ["client", "server"])
def test_memory_has_a_bound_and_a_plateau(lab, start, writer):
    if is_sanitized():
        pytest.skip("a sanitizer's own memory hides Limpid's")
    for host in lab.hosts:  # smaller socket buffers, so that the test is quick and what is left over is Limpid's
        host.sysctl("net/ipv4/tcp_rmem", "4096 131072 1048576")
        host.sysctl("net/ipv4/tcp_wmem", "4096 16384 1048576")
    limpid = start("--tcp", "80")
    listener = lab.server.listen(80)
    idle = limpid.resident_bytes()
    connections = [lab.dial_relayed(listener) for _ in range(FLOWS)]
    senders = [getattr(connection, writer) for connection in connections]
    block = bytes_of(1, 1 << 20)
    fill(senders, block)
    full = limpid.resident_bytes()
    assert full - idle < FLOWS * PER_FLOW_BYTES + (4 << 20)
    for connection in connections:  # a sip each, and full again
        reader = connection.server if writer == "client" else connection.client
        reader.recv(1 << 18)
    fill(senders, block)
    assert limpid.resident_bytes() - full < 1 << 20, "no plateau"


def test_a_reader_that_sleeps_now_and_then_gets_everything(lab, start):
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    connection.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    data = bytes_of(3, 20_000_000)
    sending = Background(connection.client.sendall, data)
    nap = threading.Event()  # never set: its wait() is the reader's slowness, the very thing under test
    received = b""
    for _ in range(20):
        nap.wait(0.02)
        received += read_exactly(connection.server, 100_000)
    assert received + read_exactly(connection.server, len(data) - len(received)) == data
    sending.result()
