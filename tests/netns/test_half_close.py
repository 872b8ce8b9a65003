"""One end has said all it had to say; the other goes on for as long as it likes."""

import socket

import pytest

from peers import Background, bytes_of, read_exactly, read_to_end

pytestmark = pytest.mark.parametrize("first", ["client", "server"])


@pytest.fixture
def ends(lab, start, first):
    """Limpid, the end that closes first, and the other."""
    limpid = start("--tcp", "80", "--half-closed-timeout", "600")
    connection = lab.dial_relayed(lab.server.listen(80))
    one, other = connection.client, connection.server
    return limpid, *((one, other) if first == "client" else (other, one))


def test_half_close_keeps_return_traffic(ends):
    limpid, early, late = ends
    early.sendall(b"question")
    early.shutdown(socket.SHUT_WR)
    assert read_to_end(late) == b"question"
    for turn in range(20):  # each a round trip after the end was passed on
        data = bytes_of(turn, 5000)
        late.sendall(data)
        assert read_exactly(early, len(data)) == data
    late.shutdown(socket.SHUT_WR)
    assert read_to_end(early) == b""
    assert limpid.flow()["end"] == "closed"


def test_much_data_before_and_after_a_half_close_arrives(ends):
    _, early, late = ends
    sent, answer = bytes_of(1, 30_000_000), bytes_of(2, 30_000_000)
    reading = Background(read_to_end, late)
    early.sendall(sent)
    early.shutdown(socket.SHUT_WR)
    assert reading.result() == sent
    reading = Background(read_to_end, early)
    late.sendall(answer)
    late.shutdown(socket.SHUT_WR)
    assert reading.result() == answer


def test_an_end_without_data_is_passed_on(ends):
    limpid, early, late = ends
    early.shutdown(socket.SHUT_WR)
    assert read_to_end(late) == b""
    late.shutdown(socket.SHUT_WR)
    assert read_to_end(early) == b""
    flow = limpid.flow()
    assert (flow["bytes_up"], flow["bytes_down"], flow["end"]) == ("0", "0", "closed")


def test_the_half_open_time_is_bounded_on_request(lab, launch, first):
    limpid = launch("--tcp", "80", "--half-closed-timeout", "1").ready()
    connection = lab.dial_relayed(lab.server.listen(80))
    early, late = ((connection.client, connection.server) if first == "client" else (connection.server, connection.client))
    early.shutdown(socket.SHUT_WR)
    assert read_to_end(late) == b""
    try:
        assert read_to_end(early) == b""  # ended by Limpid: the other end never closes
    except ConnectionResetError:
        pass
    assert limpid.flow()["end"] != "closed"
