"""The same traffic through the relay and cut through: whoever looks at the bytes, the ends or the access log sees no difference."""

import random
import socket

import pytest

from cut_flows import dial_cut, exchange_digests
from peers import Background, bytes_of, read_to_end, read_to_reset, reset

MEBIBYTE = 1 << 20
FLOWS = 40


def plans():
    dice = random.Random(11)
    return [(dice.choice((0, 1, 1448, 20_000, 300_000)), dice.choice((0, 1, 1448, 20_000, 300_000)),
             dice.choice(("client first", "server first", "client resets", "server resets"))) for _ in range(FLOWS)]


def play(connection, number, up, down, end):
    """Both directions one after the other, then the end. Returns what each side has seen."""
    sending = Background(connection.client.sendall, bytes_of(2 * number, up))
    at_server = _exactly(connection.server, up)
    sending.result()
    sending = Background(connection.server.sendall, bytes_of(2 * number + 1, down))
    at_client = _exactly(connection.client, down)
    sending.result()
    one, other = (connection.client, connection.server) if end.startswith("client") else (connection.server, connection.client)
    if end.endswith("resets"):
        reset(one)
        return at_server, at_client, read_to_reset(other)
    one.shutdown(socket.SHUT_WR)
    rest = read_to_end(other)
    other.close()
    return at_server, at_client, rest + read_to_end(one)


def _exactly(connection, length):
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(length - len(received))
        assert piece, "it has ended"
        received += piece
    return bytes(received)


def test_no_difference(lab, start):
    listener = lab.server.listen(80)
    seen, logged = {}, {}
    for mode in ("off", "always"):
        limpid = start("--tcp", "80", "--cut-through", mode)
        seen[mode] = [play(lab.dial(listener), number, *plan) for number, plan in enumerate(plans())]
        logged[mode] = sorted((flow["bytes_up"], flow["bytes_down"], flow["end"]) for flow in limpid.flows(FLOWS))
        if mode == "always":
            assert limpid.counters()["cut_through"] > FLOWS / 2
        limpid.stop()
    assert seen["always"] == seen["off"]
    assert logged["always"] == logged["off"]


@pytest.mark.parametrize("control", ["cubic", "bbr", "reno"])
def test_each_congestion_control(lab, start, control):
    available = lab.client.run("sysctl", "-n", "net.ipv4.tcp_available_congestion_control").stdout.split()
    if control not in available:
        pytest.skip(f"this kernel has no {control}")
    lab.router.nft("table netdev loss { chain in { type filter hook ingress devices = { lan, wan } priority -500; numgen random mod 1000 < 5 counter drop; }; }")
    limpid = start("--tcp", "80", "--cut-through", "always")
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    for end in (connection.client, connection.server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    exchange_digests(connection, 2 * MEBIBYTE)
    assert limpid.flow()["end"] == "closed"
