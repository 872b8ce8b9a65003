"""Every byte, in order, however many and however many at once."""

import socket

import pytest

from peers import Background, Pattern, bytes_of, read_exactly, receive_digest, wait_until

GIBIBYTE = 1 << 30


@pytest.fixture(scope="module")
def patterns():
    """The stream up and the stream down, with what their receivers must find."""
    return [(pattern, pattern.digest()) for pattern in (Pattern(1, GIBIBYTE), Pattern(2, GIBIBYTE))]


def test_a_gibibyte_each_way_at_once(lab, start, patterns):
    limpid = start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    (up, up_digest), (down, down_digest) = patterns
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result() for task in work)
    assert at_server == (up_digest, GIBIBYTE)
    assert at_client == (down_digest, GIBIBYTE)
    flow = limpid.flow()
    assert (flow["bytes_up"], flow["bytes_down"], flow["end"]) == (str(GIBIBYTE), str(GIBIBYTE), "closed")


@pytest.mark.parametrize("workers", [1, 2])
def test_two_thousand_flows_at_once(lab, start, echo, workers):
    limpid = start("--tcp", "80", "--workers", workers)
    before = limpid.descriptors()
    server = echo(80)
    clients = [lab.client.connect(lab.server.address, 80) for _ in range(2000)]
    for turn in range(2):  # the second when all of them are there
        for number, client in enumerate(clients):
            client.sendall(bytes_of(number + turn * 2000, 200))
        for number, client in enumerate(clients):
            assert read_exactly(client, 200) == bytes_of(number + turn * 2000, 200)
    assert len(server.peers) == 2000
    ports = {client.getsockname()[1] for client in clients}
    assert {address for address, _ in server.peers} == {lab.client.address}
    assert {port for _, port in server.peers} != ports, "they were forwarded, not relayed"
    for client in clients:
        client.close()
    flows = limpid.flows(2000)
    assert {(flow["bytes_up"], flow["bytes_down"], flow["end"]) for flow in flows} == {("400", "400", "closed")}
    wait_until(lambda: limpid.descriptors() <= before + 64, "the descriptors are closed, but for a pool of pipes")


@pytest.mark.parametrize("size", [1, 1447, 65536, 262144, 262145, 1_000_000])
def test_a_question_is_answered_whatever_its_size(lab, start, size):
    """262144: where a pump may change from one way of moving bytes to another."""
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    for turn in range(3):
        for sender, receiver in ((connection.client, connection.server), (connection.server, connection.client)):
            data = bytes_of(turn, size)
            sending = Background(sender.sendall, data)
            assert read_exactly(receiver, size) == data
            sending.result()


def test_small_writes_are_not_held_back(lab, start):
    """TCP_NODELAY on both legs: 50 ping-pongs of two writes each would take 40 ms apiece with Nagle and delayed ACKs."""
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    connection.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.client.settimeout(1)
    connection.server.settimeout(1)

    def play():
        for _ in range(50):
            connection.client.sendall(b"a")
            connection.client.sendall(b"b")
            assert read_exactly(connection.server, 2) == b"ab"
            connection.server.sendall(b"c")
            assert read_exactly(connection.client, 1) == b"c"

    Background(play).result(seconds=1)
