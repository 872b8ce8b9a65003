"""examples/transparent_proxy.cc: less than sixty lines on the public library that intercept, relay and undo themselves."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from kernel_state import difference, snapshot
from lab import SECONDS
from peers import Background, Pattern, exchange, read_to_end, receive_digest, wait_until

PROXY = Path(os.environ.get("LIMPID_EXAMPLES", "")) / "transparent_proxy"


@pytest.fixture
def proxy(lab, tmp_path):
    """The example, intercepting port 80 on the router."""
    if not os.access(PROXY, os.X_OK):
        pytest.skip(f"{PROXY} is not built; LIMPID_EXAMPLES names the folder of the built examples")
    before = snapshot(lab.router)
    with open(tmp_path / "stderr", "wb") as errors:
        process = lab.router.start([PROXY, "80"], stderr=errors)
    process.said = (tmp_path / "stderr").read_text
    process.kernel_before = before

    def intercepts():
        # Its threads for the listeners come when install() has returned. The table is listed a moment before it works: the kernel
        # fills interval sets last.
        return len(os.listdir(f"/proc/{process.pid}/task")) > 1

    wait_until(lambda: intercepts() or process.poll() is not None, "it intercepts")
    assert process.poll() is None, process.said()
    return process


def as_text(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def test_the_example_relays_as_the_client(lab, proxy):
    connection = lab.dial(lab.server.listen(80))
    assert not connection.was_forwarded and connection.seen[0] == lab.client.address
    assert connection.client.getpeername()[:2] == (lab.server.address, 80)
    exchange(connection.client, connection.server)
    client = as_text(*connection.client.getsockname()[:2])
    assert f"{client} dialled {as_text(lab.server.address, 80)}\n" in proxy.said()


def test_the_example_keeps_bytes_and_half_close(lab, proxy):
    connection = lab.dial(lab.server.listen(80))
    pattern = Pattern(1, 50_000_000)
    sending = Background(pattern.send, connection.client)
    assert receive_digest(connection.server) == (pattern.digest(), pattern.length)
    sending.result()
    connection.server.sendall(b"thank you")
    connection.server.shutdown(socket.SHUT_WR)
    assert read_to_end(connection.client) == b"thank you"


def test_the_example_undoes_what_it_installed(lab, proxy):
    assert difference(proxy.kernel_before, snapshot(lab.router)) != []
    proxy.send_signal(signal.SIGTERM)
    assert proxy.wait(SECONDS) == 0, proxy.said()
    assert difference(proxy.kernel_before, snapshot(lab.router)) == []
    assert lab.dial(lab.server.listen(80)).was_forwarded


def test_the_example_does_not_dial_itself(lab, proxy):
    listing = lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    port = int(re.search(r"tproxy ip to 127\.0\.0\.1:(\d+)", listing).group(1))
    own = lab.router.connect({"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family], port)
    assert read_to_end(own) == b"", "closed at once"
    assert "dialled" not in proxy.said()
