"""`limpid trace` with the iptables backends: rules of iptables-nft are followed like nft's own; of iptables-legacy's no trace tells, and the
verdict says what can be known in spite of that, and where to look."""

import pytest

import limpid_process
from explain_process import endpoint
from peers import exchange
from udp_exchange import ask

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backends itself; runs once")


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def variant(request, need):
    need(request.param, "iptables")
    return request.param


def test_an_intercepted_connection(lab, start, trace, variant):
    limpid = start("--tcp", "80", "--backend", variant)
    followed = trace("tcp", lab.client.address, endpoint(lab.server.address, 80))
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)

    def arrived(packet):
        return packet["interface"] == "lan"

    packets = followed.wait_for(lambda packet: arrived(packet) and packet["tcp_flags"] != "syn", "a later packet of the flow")
    first = next(packet for packet in packets if arrived(packet))
    later = next(packet for packet in packets if arrived(packet) and packet["tcp_flags"] != "syn")
    for packet in (first, later):
        assert (packet["verdict"], packet["end"], packet["instance"]) == ("intercepted", "delivered", "limpid")
    own_steps = [step for step in first["steps"] if step["instance"] == "limpid"]
    if variant == "iptables-nft":
        assert "TPROXY" in first["reason"] and "a flow that is intercepted already" in later["reason"]
        assert any("-j TPROXY --on-port" in step["rule"] for step in own_steps), "in iptables' own words"
    else:
        assert own_steps == [], "none is seen"
        for packet in (first, later):
            assert "iptables-legacy" in packet["reason"] and f"listener on port {packet['listener_port']}" in packet["reason"]
        assert first["listener_port"] and limpid.process.poll() is None


def test_datagrams(lab, start, trace, variant):
    start("--udp", "7000", "--backend", variant)
    followed = trace("udp", "any", "any:7000")
    ask(lab.client.datagrams(), lab.server.datagrams(7000), lab)
    packets = followed.wait_for(lambda packet: packet["interface"] == "lan", "the question")
    question = next(packet for packet in packets if packet["interface"] == "lan")
    assert (question["verdict"], question["instance"]) == ("intercepted", "limpid")


def test_what_is_not_in_scope(lab, start, trace, variant):
    start("--tcp", "80", "--backend", variant)
    followed = trace("tcp", lab.client.address, endpoint(lab.server.address, 81), "--count", "1")
    lab.dial(lab.server.listen(81))
    assert followed.process.wait(10) == limpid_process.DONE
    packet, = followed.packets
    assert packet["verdict"] == "bypassed" and packet["left_by"] == "wan"
    if variant == "iptables-nft":
        assert "the port is not in scope (TCP 80)" in packet["reason"]
    else:
        assert "cannot be seen" in packet["reason"] and "tables-legacy -t mangle -nvL limpid-pre`" in packet["reason"]
