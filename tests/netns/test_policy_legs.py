"""What a rule says of the target leg: its mark, its interface, its source."""

import os

import pytest

import limpid_process
from peers import exchange
from policy_peers import at
from udp_exchange import answer, ask, question

AWAY = {"ipv4": "203.0.113.99", "ipv6": "2001:db8:99::99"}  # the server's too, and the router's routes do not lead there
SOURCE = {"ipv4": "203.0.113.7", "ipv6": "2001:db8:77::7"}  # nobody's
MASK = {"ipv4": 32, "ipv6": 128}


@pytest.fixture
def another_way(lab):
    """A second link between router and server, and an address of the server's that only its routes know."""
    router, server = lab.router, lab.server
    router.run("ip", "link", "add", "wan2", "type", "veth", "peer", "name", "eth1", "netns", f"/proc/{os.getpid()}/fd/{server.namespace}")
    net = {"ipv4": ("10.77.0.1/24", "10.77.0.2/24"), "ipv6": ("2001:db8:88::1/64", "2001:db8:88::2/64")}[lab.family]
    for host, device, address in ((router, "wan2", net[0]), (server, "eth1", net[1])):
        host.run("ip", "address", "add", address, "dev", device, *(["nodad"] if lab.family == "ipv6" else []))
        host.run("ip", "link", "set", device, "up")
    away = f"{AWAY[lab.family]}/{MASK[lab.family]}"
    server.run("ip", "address", "add", away, "dev", "lo", *(["nodad"] if lab.family == "ipv6" else []))
    gateway = net[1].split("/")[0]
    family = ["-6"] if lab.family == "ipv6" else []
    router.run("ip", "route", "add", "unreachable", away, "metric", "1")
    router.run("ip", "route", "add", away, "via", gateway, "dev", "wan2", "metric", "2")
    router.run("ip", "route", "add", away, "via", gateway, "dev", "wan2", "table", "99")
    # A leg that is bound to an interface hears what comes back by it.
    server.run("ip", "route", "add", "default", "via", net[0].split("/")[0], "dev", "eth1", "table", "98")
    server.run("ip", *family, "rule", "add", "from", AWAY[lab.family], "lookup", "98")
    router.run("ip", *family, "rule", "add", "fwmark", "0x100/0x100", "lookup", "99")
    router.nft("table inet counts { chain out { type filter hook postrouting priority 0; oifname wan2 meta l4proto { tcp, udp } counter; meta mark & 0x300 == 0x200 counter; }; }")
    return AWAY[lab.family]


def packets(lab):
    """That left by the second link; that left with the second mark."""
    listed = lab.router.run("nft", "list", "table", "inet", "counts").stdout
    return [int(line.split("packets ")[1].split()[0]) for line in listed.splitlines() if "counter packets" in line]


def served(lab, port, address):
    """Whom the server sees, over TCP and over UDP."""
    connection = lab.dial(lab.server.listen(port), address, port)
    exchange(connection.client, connection.server)
    server, client = lab.server.datagrams(port, address), lab.client.datagrams()
    question(client, lab, port, b"question", address)
    _, peer = answer(server)
    got, sender = client.recvfrom(100)
    assert (got, sender[:2]) == (b"answer", (address, port)), "in the name of whom it asked"
    return connection.seen[0], peer[0]


def test_source_mark_and_interface(lab, start, configure, another_way):
    source = SOURCE[lab.family]
    other = SOURCE["ipv6" if lab.family == "ipv4" else "ipv4"]
    limpid = start("-c", configure(tcp="7000-7006", udp="7000-7006", rules=[
        f"dport(7000) -> direct(source: {source})",
        f"dport(7001) -> direct(mark:0x100, source:{other})",
        "dport(7002) -> direct(interface: wan2)",
        f"dport(7003) -> target({at(another_way, 7013)}, mark: 256, source: {source}, interface: wan2)",
        "dport(7004) -> direct(mark: 0x200)",
        "dport(7005) -> direct(interface: gone0)",
        "otherwise -> direct",
    ]), "--source", "address")
    here, client = lab.server.address, lab.client.address
    assert served(lab, 7000, here) == (source, source), "a source that no host has, and its answers come"
    assert packets(lab) == [0, 0]
    assert served(lab, 7001, another_way) == (client, client), "the other family's source is not used"
    by_mark = packets(lab)[0]
    assert by_mark >= 4
    assert served(lab, 7002, another_way) == (client, client)
    assert packets(lab)[0] >= by_mark + 4
    listener = lab.server.listen(7013)
    moved = lab.dial(listener, here, 7003)
    exchange(moved.client, moved.server)
    assert moved.seen[0] == source and moved.server.getsockname()[0] == another_way
    served(lab, 7004, here)
    assert packets(lab)[1] >= 4, "the mark is on the packets"
    marked = packets(lab)[1]
    served(lab, 7006, here)
    assert packets(lab)[1] == marked, "and on no others"
    with pytest.raises(ConnectionResetError):
        lab.client.connect(here, 7005).recv(1)
    assert limpid.flow()["end"] == "connect_failed", "there is no such interface"


def test_one_client_and_several_legs(lab, start, configure):
    """Datagrams from one port: each leg has its own session, and answers come from whom was asked."""
    start("-c", configure(udp="7000-7001", rules=[f"dport(7000) -> direct(source: {SOURCE[lab.family]})", "otherwise -> direct"]))
    servers = [lab.server.datagrams(port) for port in (7000, 7001)]
    client = lab.client.datagrams()
    for _ in range(3):
        assert ask(client, servers[0], lab, port=7000)[0] == SOURCE[lab.family]
        assert ask(client, servers[1], lab, port=7001)[0] == lab.client.address


def test_a_mark_must_not_meet_our_own(lab, launch, start, configure):
    flags = ("--mark", "0x10/0x30")
    refused = launch("-c", configure(tcp=80, rules=["otherwise -> direct(mark: 0x121)"]), *flags)
    assert refused.process.wait(20) == limpid_process.USAGE
    assert "0x30" in refused.messages and "mark: 0x101" in refused.messages
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> direct(mark: 0x101)"]), *flags)
    configure(tcp=80, rules=["otherwise -> direct(mark: 0x20)"])
    done = lab.router.run(limpid_process.BINARY, "reload", check=False)
    assert done.returncode == limpid_process.FAILURE and "0x30" in done.stderr
    exchange_of = lab.dial_relayed(lab.server.listen(80))
    exchange(exchange_of.client, exchange_of.server)
    assert limpid.process.poll() is None


def test_what_is_routed_otherwise_is_not_cut_through(lab, start, configure):
    if not limpid_process.has_ebpf():
        pytest.skip("this build has no cut-through: it was made without clang, bpftool or libbpf")
    limpid = start("-c", configure(tcp="7000-7001", udp="7000-7001", rules=["dport(7000) -> direct(mark: 0x100)", "otherwise -> direct"]),
                   "--cut-through", "always", "--source", "address")
    for port in (7000, 7001):
        connection = lab.dial(lab.server.listen(port))
        exchange(connection.client, connection.server)
        server, client = lab.server.datagrams(port), lab.client.datagrams()
        for _ in range(20):
            ask(client, server, lab, port=port)
    assert limpid.counters_with(stayed_routed_otherwise=2, cut_through=1, udp_cut_through=1)
