"""--cut-through-netfilter: flows without sockets pass through the host's own forwarding, where they are their client's connection."""

import pytest

import kernel_state
from cut_flows import dial_cut, exchange_digests
from explain_process import endpoint
from limpid_process import DONE, USAGE
from peers import Background, Pattern, exchange, read_to_reset, receive_digest, reset

MEBIBYTE = 1 << 20
# What a firewall of today looks like: nothing new from outside, and nothing that connection tracking does not understand.
FIREWALL = """table inet theirs {
  set banned { type ipv4_addr; }
  set banned6 { type ipv6_addr; }
  chain forward { type filter hook forward priority 0; policy drop;
    ip saddr @banned counter drop
    ip6 saddr @banned6 counter drop
    ip6 nexthdr icmpv6 accept
    ct state invalid counter drop
    ct state established,related counter accept
  }
}"""


@pytest.fixture
def cut(start, need):
    """cut(arguments…): `limpid run --tcp 80 --cut-through always --cut-through-netfilter`."""
    need("conntrack", "conntrack")

    def run(*arguments, **options):
        return start("--tcp", "80", "--cut-through", "always", "--cut-through-netfilter", *arguments, **options)
    return run


def accepted(lab):
    """Packets that the firewall has let go as part of a connection."""
    line = next(line for line in lab.router.run("nft", "list", "chain", "inet", "theirs", "forward").stdout.splitlines() if "established" in line)
    return int(line.split("packets ")[1].split()[0])


def dropped(lab):
    line = next(line for line in lab.router.run("nft", "list", "chain", "inet", "theirs", "forward").stdout.splitlines() if "invalid" in line)
    return int(line.split("packets ")[1].split()[0])


@pytest.mark.parametrize("source", [(), ("--source", "none"), ("--source", "address+port")], ids=lambda flags: flags[-1] if flags else "address")
def test_every_byte_passes_the_forward_chain(lab, cut, source):
    lab.router.nft(FIREWALL)
    limpid = cut(*source)
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    up, down = Pattern(1, 24 * MEBIBYTE), Pattern(2, 24 * MEBIBYTE)
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result() for task in work)
    assert (at_server, at_client) == ((up.digest(), up.length), (down.digest(), down.length))
    flow = limpid.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["end"], flow["cut_through"]) == (up.length, down.length, "closed", "yes")
    assert accepted(lab) > 100, "it has seen the packets"
    assert dropped(lab) == 0
    assert limpid.stop() == DONE
    assert kernel_state.installed(lab.router) == []


def test_with_bytes_on_their_way_while_it_leaves(lab, cut):
    lab.router.nft(FIREWALL)
    limpid = cut()
    listener = lab.server.listen(80)
    for _ in range(20):
        exchange_digests(lab.dial(listener), 300_000)
    limpid.counters_with(flows_open=0, flows_ended=20)
    assert limpid.counters()["cut_through"] >= 15
    assert dropped(lab) == 0


def test_the_firewall_decides_about_it(lab, cut):
    """A client that is banned while its flow is cut through is cut off, as a forwarded one would be."""
    lab.router.nft(FIREWALL)
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange(connection.client, connection.server)
    lab.router.run("nft", "add", "element", "inet", "theirs", "banned6" if lab.family == "ipv6" else "banned", "{", lab.client.address, "}")
    connection.client.sendall(b"unheard")
    connection.server.settimeout(0.7)
    with pytest.raises(TimeoutError):
        connection.server.recv(1)
    lab.router.run("nft", "flush", "set", "inet", "theirs", "banned6" if lab.family == "ipv6" else "banned")
    connection.server.settimeout(20)
    assert connection.server.recv(7) == b"unheard"
    exchange(connection.client, connection.server, seed=3)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on(lab, cut, who):
    lab.router.nft(FIREWALL)
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange(connection.client, connection.server)
    one, other = (connection.client, connection.server) if who == "client" else (connection.server, connection.client)
    reset(one)
    assert read_to_reset(other) == b""
    assert limpid.flow()["end"] == ("client_reset" if who == "client" else "target_reset")


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "ebpf"])
def test_with_each_backend(lab, cut, backend, need):
    if backend == "iptables-nft":
        need("iptables-nft", "iptables")
    lab.router.nft(FIREWALL)
    limpid = cut("--backend", backend)
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange_digests(connection, MEBIBYTE)
    assert limpid.flow()["cut_through"] == "yes"
    assert accepted(lab) > 10


def test_a_segment_that_is_too_big_is_told_of(lab, cut):
    """The path towards the server narrows: whoever sends hears it in its own terms."""
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    there = Pattern(1, MEBIBYTE)
    lab.router.run("ip", "link", "set", "wan", "mtu", "1300")
    lab.router.run("ip", "link", "set", "lan", "mtu", "1300")
    back = Pattern(2, MEBIBYTE)
    work = [Background(there.send, connection.client), Background(receive_digest, connection.server),
            Background(back.send, connection.server), Background(receive_digest, connection.client)]
    assert work[1].result() == (there.digest(), MEBIBYTE)
    assert work[3].result() == (back.digest(), MEBIBYTE)


def test_another_target_stays(lab, cut):
    listener = lab.server.listen(8080)
    limpid = cut("--target", endpoint(lab.server.address, 8080))
    connection = lab.dial(listener, port=80)
    exchange(connection.client, connection.server)
    assert limpid.counters_with(stayed_other_target=1)


def test_without_cut_through_it_is_a_mistake(lab, launch):
    refused = launch("--tcp", "80", "--cut-through-netfilter")
    assert refused.process.wait(10) == USAGE and "--cut-through auto" in refused.messages


def test_the_last_packet_of_a_handshake_was_lost(lab, cut):
    """As without netfilter: the client answers the target's second SYN-ACK, and a firewall lets both by."""
    lab.router.nft(FIREWALL)
    limpid = cut()
    listener = lab.server.listen(80)
    lab.server.nft("table inet lossy { chain in { type filter hook input priority 0; tcp dport 80 tcp flags & (syn | ack) == ack drop; }; }")
    client = lab.client.connect(lab.server.address, 80)
    limpid.counters_with(cut_through=1)
    lab.server.run("nft", "delete", "table", "inet", "lossy")
    server, _ = listener.accept()
    exchange(server, client)
    server.close()
    client.close()
    assert limpid.flow()["cut_through"] == "yes"


def test_what_is_left_of_a_translated_connection_keeps_no_other(lab, start, need):
    """A proxy that redirected is gone, and its rule; of its last connections there are entries, for two minutes, that nothing renews."""
    need("conntrack", "conntrack")
    family = "ip" if lab.family == "ipv4" else "ip6"
    lab.router.nft(f"table {family} theirs {{ chain pre {{ type nat hook prerouting priority dstnat; tcp dport 80 redirect to :8080; }}; }}")
    old = lab.router.listen(8080)
    client = lab.client.connect(lab.server.address, 80, source_port=40001)
    server, _ = old.accept()
    server.close()  # first, so that the client's port is free again
    assert client.recv(1) == b""
    client.close()
    lab.router.run("nft", "delete", "table", family, "theirs")
    shown = lab.router.run("conntrack", "-L", "-p", "tcp", "-f", lab.family, "--state", "TIME_WAIT").stdout
    assert "sport=40001 dport=80 " in shown and "sport=8080" in shown
    limpid = start("--tcp", "80", "--cut-through", "always")
    listener = lab.server.listen(80)
    client = lab.client.connect(lab.server.address, 80, source_port=40001)
    server, _ = listener.accept()
    exchange(client, server, seed=1)
    limpid.counters_with(cut_through=1, stayed_translated=0)
