"""--source: as whom Limpid dials, what happens where that is impossible, and beside a stateful firewall."""

import socket

import pytest

from lab import IP_TRANSPARENT, IPV6_TRANSPARENT
from peers import exchange, read_to_reset

STATEFUL_FIREWALL = """table inet stateful {
  chain forward {
    type filter hook forward priority 0; policy drop
    ct state invalid drop
    ct state established,related accept
    iifname "lan" ct state new accept
    meta l4proto ipv6-icmp accept
  }
  chain input {
    type filter hook input priority 0; policy accept
    ct state invalid drop
  }
  chain output {
    type filter hook output priority 0; policy accept
    ct state invalid drop
  }
}
"""


def connected(lab, listener):
    connection = lab.dial(listener)
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    return connection


def test_none_is_the_routers_own_address(lab, start):
    limpid = start("--tcp", "80", "--source", "none")
    assert connected(lab, lab.server.listen(80)).seen[0] == lab.wan
    assert limpid.flow()["source"] == "none"


@pytest.mark.parametrize("stateful", [False, True], ids=["no conntrack", "conntrack"])
@pytest.mark.parametrize("source", ["none", "address", "address+port", "prefer-port"])
def test_every_mode_works_with_and_without_conntrack(lab, start, source, stateful):
    if stateful:
        lab.router.nft(STATEFUL_FIREWALL)
    limpid = start("--tcp", "80", "--source", source)
    listener = lab.server.listen(80)
    client = lab.client.socket()
    client.bind(("", lab.client_port()))
    port = client.getsockname()[1]
    client.connect((lab.server.address, 80))
    server, seen = listener.accept()
    exchange(client, server, count=100_000)
    assert seen[0] == (lab.wan if source == "none" else lab.client.address)
    assert (seen[1] == port) == (source in ("address+port", "prefer-port"))
    client.close()
    server.close()
    assert limpid.flow()["bytes_up"] == "100000", "it was relayed"
    assert limpid.counters()["source_port_kept"] == (1 if source in ("address+port", "prefer-port") else 0)


@pytest.fixture
def taken_port(lab):
    """A port of the client's address that a socket on the router holds already."""
    holder = lab.router.socket()
    level, option = ((socket.SOL_IP, IP_TRANSPARENT) if lab.family == "ipv4" else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT))
    holder.setsockopt(level, option, 1)
    port = lab.client_port()
    holder.bind((lab.client.address, port))
    return port


@pytest.mark.not_ebpf("it keeps no port (conntrack)")
def test_prefer_port_falls_back_and_counts(lab, start, taken_port):
    limpid = start("--tcp", "80", "--source", "prefer-port")
    listener = lab.server.listen(80)
    client = lab.client.connect(lab.server.address, 80, source_port=taken_port)
    server, seen = listener.accept()
    exchange(client, server)
    assert seen[0] == lab.client.address and seen[1] != taken_port
    client.close()
    server.close()
    assert limpid.flow()["source"] == "address"
    counters = limpid.counters()
    assert (counters["source_port_kept"], counters["source_port_fallback"]) == (0, 1)


@pytest.mark.not_ebpf("it keeps no port (conntrack)")
def test_address_and_port_does_not_fall_back(lab, start, taken_port):
    limpid = start("--tcp", "80", "--source", "address+port")
    lab.server.listen(80)
    try:
        assert read_to_reset(lab.client.connect(lab.server.address, 80, source_port=taken_port)) == b""
    except ConnectionError:
        pass
    assert limpid.flow()["end"] == "source_unavailable"
    assert limpid.counters()["source_unavailable"] == 1


@pytest.mark.parametrize("source", ["address", "address+port", "prefer-port"])
def test_the_same_client_port_to_two_servers(lab, start, source):
    """Only the whole 4-tuple must be unique."""
    lab.server.run("ip", "addr", "add", *{"ipv4": ("198.51.100.9/24",), "ipv6": ("2001:db8:2::9/64", "nodad")}[lab.family],
                   "dev", "eth0")
    second = {"ipv4": "198.51.100.9", "ipv6": "2001:db8:2::9"}[lab.family]
    limpid = start("--tcp", "80", "--source", source)
    listener = lab.server.listen(80)
    port = lab.client_port()
    seen = []
    for address in (lab.server.address, second):
        client = lab.client.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", port))
        client.connect((address, 80))
        server, peer = listener.accept()
        exchange(client, server)
        seen.append(peer[1])
        server.close()
    counters = limpid.counters()
    assert counters["source_unavailable"] == 0
    if source == "address+port":
        assert seen == [port, port]
    if source == "prefer-port":
        assert counters["source_port_kept"] + counters["source_port_fallback"] == 2


@pytest.mark.parametrize("reverse_path_filter", [1, 2])
def test_source_validation_does_not_drop_what_is_intercepted(lab, start, reverse_path_filter):
    """rp_filter with src_valid_mark=1 looks the mark's routes up, finds "local", and drops without a word."""
    for interface in ("all", "default", "lan", "wan"):
        lab.router.sysctl(f"net/ipv4/conf/{interface}/rp_filter", reverse_path_filter)
        lab.router.sysctl(f"net/ipv4/conf/{interface}/src_valid_mark", 1)
    limpid = start("--tcp", "80")
    connected(lab, lab.server.listen(80))
    assert limpid.flow()["end"] == "closed"
