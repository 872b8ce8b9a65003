"""`limpid trace`: the packets of other people's flows, one by one, with what became of each."""

import os
import signal

import pytest

import kernel_state
import limpid_process
from explain_process import Trace, endpoint
from limpid_process import BACKEND, DONE, UNSUPPORTED, USAGE
from peers import exchange, wait_until
from udp_exchange import ask, question


def test_an_intercepted_connection(lab, start, trace):
    start("--tcp", "80")
    followed = trace("tcp", lab.client.address, endpoint(lab.server.address, 80))
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)

    def is_later(packet):
        if BACKEND == "ebpf":  # whose programs no trace shows: the mark tells
            return packet["interface"] == "lan" and packet["tcp_flags"] != "syn" and "eBPF programs intercept" in packet["reason"]
        return "divert" in packet["reason"]

    packets = followed.wait_for(is_later, "a later packet of the flow")
    first = next(packet for packet in packets if packet["interface"] == "lan")
    assert first["tcp_flags"] == "syn" and first["verdict"] == "intercepted"
    assert ("eBPF programs intercept" if BACKEND == "ebpf" else "tproxy") in first["reason"]
    assert first["schema"] == 1 and first["instance"] == "limpid" and first["end"] == "delivered"
    later = next(filter(is_later, packets))
    assert later["verdict"] == "intercepted"
    assert BACKEND == "ebpf" or "a flow that is intercepted already" in later["reason"]
    packets = wait_until(lambda: len({packet["interface"] for packet in followed.packets}) >= 3 and followed.packets, "packets of both legs")
    assert {packet["interface"] for packet in packets} == {"lan", "wan", None}, "both legs, and what we send ourselves"


def test_a_forwarded_connection(lab, trace):
    followed = trace("tcp", lab.client.address, endpoint(lab.server.address, 80), "--count", "4")
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    assert followed.process.wait(10) == DONE, "the count ends it"
    packets = followed.packets
    assert len(packets) == 4 and {packet["verdict"] for packet in packets} == {"bypassed"}
    assert packets[0]["left_by"] == "wan" and packets[0]["tcp_flags"] == "syn"
    assert packets[1]["left_by"] == "lan" and packets[1]["tcp_flags"] == "syn,ack"


def test_datagrams(lab, start, trace):
    start("--udp", "7000")
    followed = trace("udp", "any", "any:7000")
    ask(lab.client.datagrams(), lab.server.datagrams(7000), lab)
    packets = followed.wait_for(lambda packet: packet["interface"] == "lan", "the question")
    question_packet = next(packet for packet in packets if packet["interface"] == "lan")
    assert question_packet["verdict"] == "intercepted"


def test_drop_only(lab, trace):
    lab.router.nft("table inet wall {\n chain c {\n type filter hook forward priority 0; policy accept;\n udp dport 81 drop\n }\n}\n")
    followed = trace("udp", lab.client.address, "--drop-only", "--count", "1")
    client = lab.client.datagrams()
    for port in (80, 81, 82):
        question(client, lab, port)
    assert followed.process.wait(10) == DONE
    packet, = followed.packets
    assert packet["verdict"] == "dropped" and "inet wall c: udp dport 81 drop" in packet["reason"]
    assert packet["destination"] == endpoint(lab.server.address, 81)


def test_a_packet_that_vanishes(lab, trace):
    followed = trace("udp", lab.client.address, lab.nowhere, "--count", "1")
    question(lab.client.datagrams(), lab, 81, address=lab.nowhere)
    assert followed.process.wait(10) == DONE
    packet, = followed.packets
    assert packet["verdict"] == "dropped" and f"no route to {lab.nowhere}" in packet["reason"] and packet["end"] == "vanished"


def test_only_the_flow_that_is_meant(lab, trace):
    client = lab.client.datagrams()
    own = client.getsockname()[1]
    followed = trace("udp", endpoint(lab.client.address, own), endpoint(lab.server.address, 82), "--count", "1")
    other = lab.client.datagrams()
    question(other, lab, 82)
    question(client, lab, 81)
    question(client, lab, 82)
    assert followed.process.wait(10) == DONE
    packet, = followed.packets
    assert (packet["source"], packet["destination"]) == (endpoint(lab.client.address, own), endpoint(lab.server.address, 82))


def test_rules_that_change_meanwhile(lab, trace):
    followed = trace("udp", lab.client.address)
    client = lab.client.datagrams()
    question(client, lab, 81)
    followed.wait_for(lambda packet: packet["verdict"] == "bypassed", "the first")
    lab.router.nft("table inet wall {\n chain c {\n type filter hook forward priority 0; policy accept;\n udp dport 82 drop\n }\n}\n")
    question(client, lab, 82)
    followed.wait_for(lambda packet: "udp dport 82 drop" in packet["reason"], "the second")
    lab.router.nft("add rule inet wall c udp dport 83 drop\n")
    question(client, lab, 83)
    followed.wait_for(lambda packet: "udp dport 83 drop" in packet["reason"], "the third")


def test_text(lab, start, trace):
    start("--tcp", "80")
    followed = trace("tcp", lab.client.address, text=True)
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
    wait_until(lambda: followed.text.count("eBPF programs intercept") > 1 if BACKEND == "ebpf" else "(divert)" in followed.text, "a later packet")
    blocks = followed.text.split("\n\n")
    assert any("[syn], arriving on lan" in block for block in blocks)
    for block in blocks[:-1]:
        assert block.splitlines()[-1].startswith("  verdict: ")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_end_takes_its_table_away(lab, trace, ending):
    before = kernel_state.snapshot(lab.router)
    followed = trace("tcp")
    assert "limpid__trace" in lab.router.run("nft", "list", "tables").stdout
    assert followed.stop(ending) == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_a_reader_that_goes_away_ends_it(lab, tmp_path):
    """`limpid trace … | head`: as with any other command in a pipe, but the table goes first."""
    before = kernel_state.snapshot(lab.router)
    reading, writing = os.pipe()
    errors = tmp_path / "stderr"
    with open(errors, "wb") as err:
        process = lab.router.start([limpid_process.BINARY, "trace", "tcp", "--json"], stdout=writing, stderr=err)
    os.close(writing)
    os.close(reading)
    wait_until(lambda: "following" in errors.read_text(), "it follows")
    lab.dial(lab.server.listen(80))
    assert process.wait(10) == -signal.SIGPIPE, errors.read_text()
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_a_killed_one_leaves_what_the_next_takes_away(lab, tmp_path):
    before = kernel_state.snapshot(lab.router)
    killed = Trace(lab, tmp_path / "killed", "tcp")
    killed.process.kill()
    killed.process.wait()
    assert "limpid__trace" in lab.router.run("nft", "list", "tables").stdout
    done = lab.router.run(limpid_process.BINARY, "trace", "tcp", "--timeout", "10ms")
    assert done.returncode == DONE and done.stdout == ""
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments, status, says", [
    ([], USAGE, "PROTOCOL"),
    (["sctp"], USAGE, "sctp"),
    (["tcp", "example.org"], USAGE, "example.org"),
    (["tcp", "any:0"], USAGE, "any:0"),
    (["tcp", "192.0.2.2", "2001:db8::1"], USAGE, "family"),
    (["tcp", "any", "any", "any"], USAGE, "any"),
    (["tcp", "--count", "0"], USAGE, "--count"),
    (["tcp", "--count", "-1"], USAGE, "--count"),
    (["tcp", "--timeout", "soon"], USAGE, "soon")], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use(lab, arguments, status, says):
    done = lab.router.run(limpid_process.BINARY, "trace", *arguments, check=False)
    assert done.returncode == status and len(done.stderr.splitlines()) == 1 and says in done.stderr


def test_missing_privileges(lab):
    done = lab.router.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", limpid_process.BINARY, "trace", "tcp", check=False)
    assert done.returncode == UNSUPPORTED and "CAP_NET_ADMIN" in done.stderr
