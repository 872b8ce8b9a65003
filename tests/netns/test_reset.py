"""RST becomes RST, and takes no byte with it that was received before."""

import socket
import time

import pytest

from peers import Background, bytes_of, read_exactly, read_to_end, read_to_reset, reset

pytestmark = pytest.mark.parametrize("by", ["client", "server"])
TRIALS = 200


def ends(connection, by):
    return (connection.client, connection.server) if by == "client" else (connection.server, connection.client)


def test_no_byte_is_lost_before_a_reset(lab, start, by):
    limpid = start("--tcp", "80")
    listener = lab.server.listen(80)
    longest = 0
    for trial in range(TRIALS):
        aborting, other = ends(lab.dial_relayed(listener), by)
        data = bytes_of(trial, 1 + trial * 331 % 60000)
        aborting.sendall(data)
        reset(aborting)
        began = time.monotonic()
        assert read_to_reset(other) == data, f"trial {trial}"
        longest = max(longest, time.monotonic() - began)
        other.close()
    assert longest < 0.5, "seconds from RST to RST"
    ends_logged = [flow["end"] for flow in limpid.flows(TRIALS)]
    assert ends_logged == [{"client": "client_reset", "server": "target_reset"}[by]] * TRIALS


def test_a_reset_waits_for_bytes_that_the_slow_reader_has_not_taken(lab, start, by):
    """Limpid holds them, acknowledged to a sender that is gone."""
    start("--tcp", "80")
    listener = lab.server.listen(80)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # inherited
    for trial in range(20):
        connection = lab.dial_relayed(listener)
        aborting, other = ends(connection, by)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        data = bytes_of(trial, 150_000)
        aborting.sendall(data)
        reset(aborting)
        assert read_to_reset(other) == data, f"trial {trial}"


def test_a_reset_in_mid_stream_arrives_at_once(lab, start, by):
    start("--tcp", "80")
    aborting, other = ends(lab.dial_relayed(lab.server.listen(80)), by)
    writing = Background(lambda: other.sendall(bytes_of(1, 50_000_000)))
    read_exactly(aborting, 1_000_000)
    began = time.monotonic()
    aborting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    aborting.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        writing.result()
    assert time.monotonic() - began < 0.5


def test_a_reset_behind_a_half_close_is_passed_on(lab, start, by):
    start("--tcp", "80")
    aborting, other = ends(lab.dial_relayed(lab.server.listen(80)), by)
    other.shutdown(socket.SHUT_WR)
    assert read_to_end(aborting) == b""
    aborting.sendall(b"last words")
    reset(aborting)
    assert read_to_reset(other) == b"last words"


def test_what_a_killed_relay_cuts_short_does_not_look_whole(lab, start, by):
    limpid = start("--tcp", "80")
    writing, other = ends(lab.dial_relayed(lab.server.listen(80)), by)
    written = Background(lambda: writing.sendall(bytes_of(1, 50_000_000)))
    read_exactly(other, 1_000_000)
    limpid.kill()
    assert len(read_to_reset(other)) < 49_000_000
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        written.result()
