"""Upstreams that answer as no honest one would: the client is let go within the time limit, nothing leaks, and no byte of the flow is lost."""

import random

import pytest

from peers import bytes_of, read_exactly, wait_until
from upstream_peers import HostileServer, at

GRANTED = b"\x05\x00\x00\x01\x0a\x00\x00\x01\x04\x38"


@pytest.fixture
def hostile(lab):
    """hostile(behave, port) runs one on the server."""
    made = []

    def make(behave, port=1080):
        made.append(HostileServer(lab.server, port, behave))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def is_reset(lab):
    """At once, or as soon as the upstream has answered."""
    try:
        return lab.client.connect(lab.server.address, 80).recv(1) is None
    except ConnectionResetError:
        return True


def answer_and_wait(*answers):
    def behave(connection):
        for answer in answers:
            connection.recv(4096)
            connection.sendall(answer)
        connection.recv(1 << 16)
        connection.recv(1 << 16)
    return behave


def close_at_once(connection):
    connection.close()


def close_in_the_middle(connection):
    connection.recv(4096)
    connection.sendall(b"\x05")
    connection.close()


MISBEHAVIOURS = {
    "wrong version": ("socks5", answer_and_wait(b"\x04\x00"), "upstream_failed"),
    "http instead": ("socks5", answer_and_wait(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "upstream_failed"),
    "nothing acceptable": ("socks5", answer_and_wait(b"\x05\xff"), "upstream_failed"),
    "method not offered": ("socks5", answer_and_wait(b"\x05\x02"), "upstream_failed"),
    "odd address type": ("socks5", answer_and_wait(b"\x05\x00", b"\x05\x00\x00\x07\x00\x00"), "upstream_failed"),
    "stalls at once": ("socks5", answer_and_wait(), "upstream_timeout"),
    "stalls before the answer": ("socks5", answer_and_wait(b"\x05\x00"), "upstream_timeout"),
    "closes at once": ("socks5", close_at_once, "upstream_failed"),
    "closes in the middle": ("socks5", close_in_the_middle, "upstream_failed"),
    "forbids": ("socks5", answer_and_wait(b"\x05\x00", b"\x05\x02\x00\x01" + bytes(6)), "upstream_refused"),
    "http: no http": ("http", answer_and_wait(b"SSH-2.0-OpenSSH_9\r\n"), "upstream_failed"),
    "http: an endless header": ("http", answer_and_wait(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "upstream_failed"),
    "http: a header without end": ("http", answer_and_wait(b"HTTP/1.1 200 OK\r\nX: y\r\n"), "upstream_timeout"),
    "http: not allowed": ("http", answer_and_wait(b"HTTP/1.1 407 No\r\n\r\n"), "upstream_failed"),
    "socks4: nonsense": ("socks4", answer_and_wait(b"\x05\x5a" + bytes(6)), "upstream_failed"),
}


@pytest.mark.parametrize("what", MISBEHAVIOURS)
def test_the_client_is_let_go(lab, start, hostile, what):
    scheme, behave, end = MISBEHAVIOURS[what]
    if scheme == "socks4" and lab.family == "ipv6":
        pytest.skip("SOCKS4 knows IPv4 only")
    server = hostile(behave)
    limpid = start("--tcp", "80", "--upstream", f"{scheme}://{at(lab.server.address, 1080)}", "--upstream-timeout", "500ms", "--upstream-check", "0")
    before = limpid.descriptors()
    for _ in range(2):
        assert is_reset(lab)
    flows = limpid.flows(2)
    assert {flow["end"] for flow in flows} == {end}
    assert all(int(flow["duration_ms"]) < 5000 for flow in flows)
    assert server.accepted == 2
    wait_until(lambda: limpid.descriptors() <= before, "no descriptor is left")


@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_what_comes_right_behind_the_answer_is_the_flows(lab, start, hostile, scheme):
    """In one segment with it, and the answer in single bytes."""
    words = bytes_of(3, 20_000)
    header = b"HTTP/1.1 200 OK\r\nVia: 1.1 x\r\n\r\n"

    def at_once(connection):
        if scheme == "socks5":
            connection.recv(4096)
            connection.sendall(b"\x05\x00")
        connection.recv(4096)
        connection.sendall((GRANTED if scheme == "socks5" else header) + words)
        connection.sendall(read_exactly(connection, 5000))
        connection.recv(1)

    server = hostile(at_once)
    limpid = start("--tcp", "80", "--upstream", f"{scheme}://{at(lab.server.address, 1080)}", "--upstream-check", "0")
    for number in range(10):
        client = lab.client.connect(lab.server.address, 80)
        data = bytes_of(number, 5000)
        client.sendall(data)
        assert read_exactly(client, len(words)) == words
        assert read_exactly(client, 5000) == data
        client.close()
    assert server.accepted == 10
    assert {int(flow["bytes_down"]) for flow in limpid.flows(10)} == {25_000}


def test_an_answer_in_single_bytes_is_one(lab, start, hostile):
    dice = random.Random(1)

    def drip(connection):
        def say(text):
            for byte in text:
                connection.sendall(bytes([byte]))
                if dice.random() < 0.3:
                    wait_until(lambda: True, "a moment")
        connection.recv(4096)
        say(b"\x05\x00")
        connection.recv(4096)
        say(GRANTED + b"hello")
        connection.sendall(read_exactly(connection, 3))

    hostile(drip)
    start("--tcp", "80", "--upstream", f"socks5://{at(lab.server.address, 1080)}", "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    assert read_exactly(client, 5) == b"hello"
    client.sendall(b"abc")
    assert read_exactly(client, 3) == b"abc"


def test_destinations_that_do_not_answer_take_no_upstream_down(lab, start, hostile):
    """Otherwise one client could take the way out from all others."""
    hostile(answer_and_wait(b"\x05\x00"))
    limpid = start("--tcp", "80", "--upstream", f"socks5://{at(lab.server.address, 1080)}?name=only", "--upstream-timeout", "200ms", "--upstream-check", "0")
    for _ in range(5):
        assert is_reset(lab)
    assert {(flow["end"], flow["upstream"]) for flow in limpid.flows(5)} == {("upstream_timeout", "only")}


def test_a_client_that_leaves_in_the_middle_ends_it(lab, start, hostile):
    hostile(answer_and_wait(b"\x05\x00"))
    limpid = start("--tcp", "80", "--upstream", f"socks5://{at(lab.server.address, 1080)}", "--upstream-check", "0")
    before = limpid.descriptors()
    client = lab.client.connect(lab.server.address, 80)
    wait_until(lambda: limpid.descriptors() > before, "it has begun")
    client.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER: reset
    client.close()
    assert limpid.flow()["end"] == "client_reset"
    wait_until(lambda: limpid.descriptors() <= before, "no descriptor is left")
