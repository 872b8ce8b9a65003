"""Flows that leave the proxy: every byte arrives, no socket is left, the access log still has them, and they outlive the daemon."""

import os
import random
import socket
from pathlib import Path

import pytest

import ebpf_state
import kernel_state
import limpid_process
from cut_flows import dial_cut, exchange_digests, sockets
from limpid_process import DONE, UNSUPPORTED
from packet_queue import Reordering
from peers import Background, Pattern, bytes_of, exchange, read_exactly, read_to_end, read_to_reset, receive_digest, reset, wait_until

MEBIBYTE = 1 << 20
# Thousands for those who ask: LIMPID_CUT_FLOWS=5000.
FLOWS = int(os.environ.get("LIMPID_CUT_FLOWS", "60"))


@pytest.fixture
def cut(start):
    """cut(arguments…): `limpid run --tcp 80 --cut-through always`."""
    def run(*arguments, **options):
        return start("--tcp", "80", "--cut-through", "always", *arguments, **options)
    return run


@pytest.mark.parametrize("source", [(), ("--source", "none"), ("--source", "address+port"), ("--source", "prefer-port")], ids=lambda flags: flags[-1] if flags else "address")
@pytest.mark.parametrize("direction", ["up", "down", "duplex"])
def test_every_byte_arrives(lab, cut, source, direction):
    limpid = cut(*source)
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    relayed = limpid.counters()
    up, down = Pattern(1, 48 * MEBIBYTE if direction != "down" else 0), Pattern(2, 48 * MEBIBYTE if direction != "up" else 0)
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result() for task in work)
    assert at_server == (up.digest(), up.length)
    assert at_client == (down.digest(), down.length)
    after = limpid.counters()
    assert (after["bytes_up"], after["bytes_down"], after["flows_total"]) == (relayed["bytes_up"], relayed["bytes_down"], 1), "the relay has seen none of it"
    flow = limpid.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["end"], flow["cut_through"]) == (up.length, down.length, "closed", "yes")
    assert flow["client"].endswith(f":{connection.local[1]}")
    assert limpid.stop() == DONE


def test_many_flows_of_every_size_and_end(lab, cut, need):
    """Random sizes both ways, who finishes first, who does not wait: at once, and nothing is left of them."""
    limpid = cut()
    listener = lab.server.listen(80)
    dice = random.Random(7)
    plans = [(dice.choice((0, 1, 100, 1448, 1449, 20_000, 70_000, 400_000)), dice.choice((0, 1, 100, 1448, 20_000, 70_000, 400_000)),
              dice.choice(("client first", "server first", "together"))) for _ in range(FLOWS)]

    def side(connection, mine, theirs, waits):
        def write():
            connection.sendall(mine)
            connection.shutdown(socket.SHUT_WR)

        if waits:
            received = read_to_end(connection)
            write()
        else:
            writing = Background(write)
            received = read_to_end(connection)
            writing.result()
        assert received == theirs
        connection.close()

    def flow(number):
        up, down, order = plans[number]
        connection = lab.dial(listener)
        up, down = bytes_of(number * 2, up), bytes_of(number * 2 + 1, down)
        return (Background(side, connection.client, up, down, order == "server first"),
                Background(side, connection.server, down, up, order == "client first"))

    for first in range(0, FLOWS, 20):
        for work in [flow(number) for number in range(first, min(first + 20, FLOWS))]:
            for task in work:
                task.result()
    flows = limpid.flows(FLOWS)
    assert sorted((int(each["bytes_up"]), int(each["bytes_down"])) for each in flows) == sorted(plan[:2] for plan in plans)
    assert {each["end"] for each in flows} == {"closed"}
    assert sum(each.get("cut_through") == "yes" for each in flows) > FLOWS / 2
    assert limpid.counters_with(flows_ended=FLOWS, flows_open=0)
    assert limpid.stop() == DONE


def test_ends_that_race_the_hand_over(lab, cut):
    """Both sides finish at once, as soon as they are connected: some FINs reach our sockets, some do not."""
    limpid = cut()
    listener = lab.server.listen(80)

    def finish(connection):
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        connection.close()

    for _ in range(0, FLOWS, 20):
        pairs = [lab.dial(listener) for _ in range(20)]
        for task in [Background(finish, side) for pair in pairs for side in (pair.client, pair.server)]:
            task.result()
    flows = limpid.flows(len(range(0, FLOWS, 20)) * 20)
    assert {(flow["bytes_up"], flow["bytes_down"], flow["end"]) for flow in flows} == {("0", "0", "closed")}
    limpid.counters_with(flows_open=0)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on(lab, cut, who):
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange(connection.client, connection.server, seed=3)
    one, other = (connection.client, connection.server) if who == "client" else (connection.server, connection.client)
    one.sendall(b"last words")
    reset(one)
    assert read_to_reset(other) == b"last words"
    flow = limpid.flow()
    assert (flow["end"], flow["cut_through"]) == ("client_reset" if who == "client" else "target_reset", "yes")


@pytest.mark.parametrize("rules", ["numgen random mod 1000 < 5 counter drop", "numgen random mod 1000 < 30 counter drop"], ids=["0.5%", "3%"])
def test_loss(lab, cut, rules):
    """On the way to the router, and behind it: nothing of netfilter on the router sees these packets."""
    for host in (lab.client, lab.server):
        host.nft(f"table inet loss {{ chain in {{ type filter hook input priority 0; meta l4proto tcp {rules}; }}; }}")
    limpid = cut()
    connection = lab.dial(lab.server.listen(80))
    up, down = Pattern(1, 8 * MEBIBYTE), Pattern(2, 8 * MEBIBYTE)
    for side in (connection.client, connection.server):
        side.settimeout(60)
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result(120) for task in work)
    assert (at_server, at_client) == ((up.digest(), up.length), (down.digest(), down.length))
    assert limpid.counters()["cut_through"] == 1


def test_packets_that_overtake_each_other(lab, cut, need):
    """On their way to the ends; a program has them in its hands, because nftables has no queue everywhere."""
    iptables = "ip6tables" if ":" in lab.client.address else "iptables"
    need(iptables, "iptables")
    hosts = (lab.client, lab.server)
    at_work = [Reordering(host, 0) for host in hosts]
    try:
        for host in hosts:
            host.run(iptables, "-A", "INPUT", "-p", "tcp", "-j", "NFQUEUE", "--queue-num", "0")
        limpid = cut()
        exchange_digests(dial_cut(lab, limpid, lab.server.listen(80)), 4 * MEBIBYTE)
        assert all(each.swapped > 10 for each in at_work)
    finally:
        for each in at_work:
            each.close()


def timeouts(host):
    """Retransmission time-outs of all TCP sockets so far."""
    with host.inside():
        names, values = [line.split()[1:] for line in Path("/proc/thread-self/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(names, values))["TCPTimeouts"])


@pytest.mark.parametrize("mode, flows, length, chance", [("always", FLOWS, 300_000, 0.02), ("auto", FLOWS // 5, 24_000_000, 0.25)], ids=["at once", "later"])
def test_a_flip_makes_nobody_wait(lab, start, mode, flows, length, chance):
    """Both ends send from the first moment on, so the hand-over comes in the middle of it: no time-out is more than chance. What lies in our sockets by then is
    delivered by a process, which waits for its turn where the processors are busy; so later there is more of chance."""
    def count(mode):
        limpid = start("--tcp", "80", "--cut-through", mode)
        listener = lab.server.listen(80)
        before = timeouts(lab.client) + timeouts(lab.server)
        for _ in range(0, flows, 4):
            connections = [lab.dial(listener) for _ in range(4)]
            work = [Background(exchange_digests, connection, length) for connection in connections]
            for task in work:
                task.result()
            for connection in connections:
                connection.client.close()
                connection.server.close()
        flipped = limpid.counters()["cut_through"]
        assert limpid.stop() == DONE
        listener.close()
        return flipped, timeouts(lab.client) + timeouts(lab.server) - before

    flipped, waited = count(mode)
    relayed, waited_otherwise = count("off")
    print(f"{flipped} flips, {waited} time-outs; relayed: {waited_otherwise}")
    assert relayed == 0 and flipped > flows / 2
    assert waited <= waited_otherwise + flows * chance


@pytest.mark.parametrize("mtu", [1280, 9000])
def test_other_segment_sizes(lab, cut, mtu):
    for host, links in ((lab.client, ["eth0"]), (lab.router, ["lan", "wan"]), (lab.server, ["eth0"])):
        for link in links:
            host.run("ip", "link", "set", link, "mtu", mtu)
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange_digests(connection, 4 * MEBIBYTE)


@pytest.mark.parametrize("lan, wan", [(1500, 1492), (1420, 1500)], ids=["pppoe", "tunnel"])
def test_interfaces_of_different_mtus(lab, cut, lan, wan):
    """No segment is larger than the smaller way takes: nobody has to be told by ICMP."""
    for host, link, mtu in ((lab.client, "eth0", lan), (lab.router, "lan", lan), (lab.router, "wan", wan), (lab.server, "eth0", wan)):
        host.run("ip", "link", "set", link, "mtu", mtu)
    limpid = cut()
    exchange_digests(dial_cut(lab, limpid, lab.server.listen(80)), 4 * MEBIBYTE)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_tiny_segment_size_of_one_end_stays(lab, cut, who):
    """TCP_MAXSEG: the other end would send more than this one has asked for."""
    limpid = cut()
    listener = lab.server.listen(80)
    client = lab.client.socket()
    (client if who == "client" else listener).setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 200)
    client.connect((lab.server.address, 80))
    server, _ = listener.accept()
    exchange(client, server, seed=1, count=100_000)
    limpid.counters_with(stayed_segment_size=1, cut_through=0)
    server.close()


def test_offloads_off(lab, cut, need):
    """Checksums are finished, and no segment is larger than the MTU."""
    need("ethtool", "ethtool")
    for host, links in ((lab.client, ["eth0"]), (lab.router, ["lan", "wan"]), (lab.server, ["eth0"])):
        for link in links:
            host.run("ethtool", "-K", link, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", "sg", "off", check=False)
    limpid = cut()
    exchange_digests(dial_cut(lab, limpid, lab.server.listen(80)), 4 * MEBIBYTE)


@pytest.mark.parametrize("key, value, reason", [("tcp_timestamps", 0, "stayed_timestamps_differ"), ("tcp_sack", 0, "stayed_sack_differs")])
def test_what_one_leg_lacks(lab, cut, key, value, reason):
    """The client asks for it, the server has none of it: relayed, for a reason with a name."""
    lab.server.sysctl(f"net/ipv4/{key}", value)
    limpid = cut()
    connection = lab.dial(lab.server.listen(80))
    exchange_digests(connection, MEBIBYTE)
    assert limpid.flow().get("cut_through") is None
    assert limpid.counters()[reason] == 1


@pytest.mark.parametrize("key", ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"])
def test_what_both_legs_lack(lab, cut, key):
    for host in (lab.client, lab.server):
        host.sysctl(f"net/ipv4/{key}", 0)
    limpid = cut()
    exchange_digests(dial_cut(lab, limpid, lab.server.listen(80)), 2 * MEBIBYTE)


@pytest.mark.parametrize("who", ["client", "server"])
def test_small_windows_of_one_end(lab, cut, who):
    """A scale of its own, and a reader that lets its window close: zero windows and probes pass."""
    host = lab.client if who == "client" else lab.server
    host.sysctl("net/ipv4/tcp_rmem", "4096 50000 100000")
    limpid = cut()
    connection = lab.dial(lab.server.listen(80))
    wait_until(lambda: limpid.counters()["cut_through"] == 1, "it is cut through")
    sender, reader = (connection.server, connection.client) if who == "client" else (connection.client, connection.server)
    sender.settimeout(0.5)
    filled = 0
    try:
        while True:
            filled += sender.send(b"x" * 65536)
    except (TimeoutError, BlockingIOError):
        pass
    sender.settimeout(30)
    assert read_exactly(reader, filled) == b"x" * filled
    exchange(connection.client, connection.server, seed=9)
    assert not sockets(lab)


@pytest.mark.parametrize("who", ["client", "server"])
def test_windows_too_small_to_begin_with_stay(lab, cut, who):
    """Ten segments, which anybody may send at once, are more than this end takes; and its reader does not read."""
    host = lab.client if who == "client" else lab.server
    host.sysctl("net/ipv4/tcp_rmem", "4096 8192 8192")
    limpid = cut()
    connection = lab.dial(lab.server.listen(80))
    for turn in range(3):
        exchange(connection.client, connection.server, seed=turn)
    exchange_digests(connection, MEBIBYTE)
    assert limpid.flow()["end"] == "closed"


def test_translated_connections_stay(lab, cut):
    """Masquerade on the target's side: the wire has another address than our socket."""
    lab.router.nft("table inet theirs { chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }; }")
    limpid = cut()
    connection = lab.dial(lab.server.listen(80))
    exchange_digests(connection, MEBIBYTE)
    assert connection.seen[0] == lab.wan
    limpid.counters_with(stayed_translated=1, cut_through=0)


def test_urgent_data_before_stays(lab, cut):
    """It comes while the target is being dialled."""
    lab.server.nft("table inet slow { chain in { type filter hook input priority 0; tcp dport 80 tcp flags syn limit rate over 1/second burst 1 packets drop; }; }")
    limpid = cut()
    listener = lab.server.listen(80)
    lab.dial(listener)
    client = lab.client.connect(lab.server.address, 80, source_port=lab.client_port())
    client.send(b"ab!", socket.MSG_OOB)
    server, _ = listener.accept()
    server.settimeout(10)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    assert read_exactly(server, 3) == b"ab!"
    limpid.counters_with(stayed_urgent=1)
    server.close()
    client.close()


def test_what_came_early_is_delivered(lab, cut):
    """The client has filled our window before the target answers its SYN: the sockets deliver that, the programs the rest."""
    lab.server.nft("table inet slow { chain in { type filter hook input priority 0; tcp dport 80 tcp flags syn limit rate over 1/second burst 1 packets drop; }; }")
    limpid = cut()
    listener = lab.server.listen(80)
    lab.dial(listener)
    early = bytes_of(4, 4 * MEBIBYTE)
    client = lab.client.connect(lab.server.address, 80, source_port=lab.client_port())
    sending = Background(client.sendall, early)
    server, _ = listener.accept()
    server.settimeout(30)
    assert read_exactly(server, len(early)) == early
    sending.result()
    wait_until(lambda: limpid.counters()["cut_through"] == 2, "a hold has made the moment")
    wait_until(lambda: not sockets(lab), "no socket is left")
    exchange(client, server, seed=6, count=MEBIBYTE // 8)
    client.close()
    server.close()
    assert limpid.flow()["bytes_up"] == str(4 * MEBIBYTE + MEBIBYTE // 8)


def test_killed_in_the_middle_and_adopted(lab, cut):
    """kill -9 disturbs nothing; the next one has its record and ends it in the end."""
    listener = lab.server.listen(80)
    limpid = cut()
    connection = dial_cut(lab, limpid, listener)
    up = Pattern(1, 256 * MEBIBYTE)
    sending = Background(up.send, connection.client)
    first = read_exactly(connection.server, MEBIBYTE)
    limpid.kill()
    rest = Background(receive_digest, connection.server)
    other = cut()
    assert "flows that were cut through by an earlier process go on" in other.messages
    sending.result()
    _, length = rest.result()
    assert len(first) + length == up.length
    exchange_back = bytes_of(5, 1000)
    connection.server.sendall(exchange_back)
    assert read_exactly(connection.client, 1000) == exchange_back
    connection.server.close()
    flow = other.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["end"]) == (up.length, 1000, "closed")
    assert other.stop() == DONE
    assert kernel_state.installed(lab.router) == []


def test_what_a_killed_one_left_is_removed(lab, cut):
    before = kernel_state.snapshot(lab.router)
    limpid = cut()
    dial_cut(lab, limpid, lab.server.listen(80))
    limpid.kill()
    assert lab.router.run(limpid_process.BINARY, "rules", "remove", check=False).returncode == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_a_stop_waits_and_then_resets(lab, cut):
    before = kernel_state.snapshot(lab.router)
    limpid = cut("--drain-timeout", "30s")
    listener = lab.server.listen(80)
    connection = dial_cut(lab, limpid, listener)
    limpid.process.terminate()
    wait_until(lambda: "draining" in limpid.messages, "it drains")
    exchange(connection.client, connection.server, seed=4)
    connection.client.close()
    connection.server.close()
    assert limpid.stop() == DONE
    assert limpid.flow()["end"] == "closed"
    limpid = cut("--drain-timeout", "0")
    connection = dial_cut(lab, limpid, listener)
    exchange(connection.client, connection.server, seed=5)
    assert limpid.stop() == DONE
    assert read_to_reset(connection.client) == b"" and read_to_reset(connection.server) == b""
    assert limpid.flow()["end"] == "stopped"
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_silence_ends_a_flow(lab, cut):
    limpid = cut("--idle-timeout", "2s")
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    assert read_to_reset(connection.client) == b"" and read_to_reset(connection.server) == b""
    flow = limpid.flow()
    assert (flow["end"], flow["cut_through"]) == ("idle_timeout", "yes")


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "ebpf"])
def test_with_each_backend(lab, cut, backend, need):
    if backend.startswith("iptables"):
        need(backend, "iptables")
    limpid = cut("--backend", backend)
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange_digests(connection, 4 * MEBIBYTE)
    assert limpid.flow()["cut_through"] == "yes"
    assert limpid.stop() == DONE


def test_a_fixed_target_is_cut_through(lab, cut):
    listener = lab.server.listen(8080)
    target = f"[{lab.server.address}]:8080" if lab.family == "ipv6" else f"{lab.server.address}:8080"
    limpid = cut("--target", target)
    connection = lab.dial(listener, port=80)
    wait_until(lambda: limpid.counters()["cut_through"] == 1, "it is cut through")
    exchange_digests(connection, 4 * MEBIBYTE)


def test_an_interface_that_is_made_again(lab, cut):
    """The programs look the way up for each packet: a flow waits, and goes on."""
    limpid = cut()
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    exchange(connection.client, connection.server, seed=1)
    end = f"/proc/{os.getpid()}/fd/{lab.server.namespace}"
    lab.router.run("ip", "link", "del", "wan")
    lab.router.run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", end)
    lab.router.run("ip", "-batch", "-", input="link set wan up\naddr add 198.51.100.1/24 dev wan\naddr add 2001:db8:2::1/64 dev wan nodad")
    wait_until(lambda: "tcx ingress wan" in ebpf_state.attached(lab.router), "it is followed", 5)
    lab.server.run("ip", "-batch", "-", input="link set eth0 up\naddr add 198.51.100.2/24 dev eth0\naddr add 2001:db8:2::2/64 dev eth0 nodad\n"
                   "route add default via 198.51.100.1\nroute add default via 2001:db8:2::1")
    exchange(connection.client, connection.server, seed=2)
    assert not sockets(lab)


def tracked(lab):
    """Connection tracking's entries of the router, of TCP and the port of these tests."""
    shown = lab.router.run("conntrack", "-L", "-p", "tcp", "-f", lab.family, check=False).stdout
    return [line for line in shown.splitlines() if "dport=80 " in line]


def test_beside_a_firewall_with_connection_tracking(lab, cut, need):
    """One that drops what is invalid gets nothing invalid to see; and connection tracking does not keep what it sees no more."""
    need("conntrack", "conntrack")
    lab.router.nft("table inet theirs { chain in { type filter hook input priority 0; ct state invalid counter drop; ct state new,established accept; };"
                   " chain out { type filter hook output priority 0; ct state invalid counter drop; }; }")
    limpid = cut()
    listener = lab.server.listen(80)
    for _ in range(5):
        connection = dial_cut(lab, limpid, listener)
        exchange_digests(connection, MEBIBYTE)
    # With bytes on their way while it leaves, and gaps: acknowledgements then name octets that our sockets, and tracking, have never seen.
    for end in (lab.client, lab.server):
        end.nft("table inet lossy { chain in { type filter hook input priority 0; tcp flags & (syn | fin | rst) == 0 numgen random mod 20 == 0 drop; }; }")
    for _ in range(20):
        connection = lab.dial(listener)
        exchange_digests(connection, 300_000)
    limpid.counters_with(flows_open=0, flows_ended=25)
    assert limpid.counters()["cut_through"] >= 20
    wait_until(lambda: not any("ESTABLISHED" in line for line in tracked(lab)), "it has forgotten them")


def test_the_last_packet_of_a_handshake_was_lost(lab, cut):
    """The target asks once more, and nobody here has a socket: the client answers. Else whoever waits for the target's first word waits for ever."""
    limpid = cut()
    listener = lab.server.listen(80)
    lab.server.nft("table inet lossy { chain in { type filter hook input priority 0; tcp dport 80 tcp flags & (syn | ack) == ack drop; }; }")
    client = lab.client.connect(lab.server.address, 80)
    limpid.counters_with(cut_through=1)
    wait_until(lambda: not sockets(lab), "the flow has no socket here any more")
    lab.server.run("nft", "delete", "table", "inet", "lossy")
    server, _ = listener.accept()
    exchange(server, client)
    server.close()
    client.close()
    assert limpid.flow()["cut_through"] == "yes"


@pytest.mark.parametrize("who", ["client", "server"])
def test_in_the_middle_of_bulk(lab, cut, who):
    """The target answers late, the client has filled every buffer by then, or the other way round: a hold makes the moment."""
    limpid = cut()
    lab.server.nft("table inet slow { chain in { type filter hook input priority 0; tcp dport 80 limit rate over 2 mbytes/second burst 20 kbytes drop; }; }"
                   if who == "client" else "table inet none { }")
    connection = lab.dial(lab.server.listen(80))
    exchange_digests(connection, 2 * MEBIBYTE)
    assert limpid.flow()["end"] == "closed"


def test_without_the_kernels_help(lab, launch, start):
    """Nobody may load programs: `auto` says so and relays, `always` is an error."""
    wrapper = ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--inh-caps", "-bpf,-perfmon,-sys_admin"]
    refused = launch("--tcp", "80", "--cut-through", "always", wrapper=wrapper)
    assert refused.process.wait(10) == UNSUPPORTED and "--cut-through always" in refused.messages
    limpid = start("--tcp", "80", "--cut-through", "auto", wrapper=wrapper)
    assert limpid.messages.count("no cut-through here") == 1
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
