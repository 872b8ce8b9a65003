"""Bulk in datagrams that are forwarded past the proxy: nothing is lost, changed or overtaken. QUIC, and every backend."""

import socket

import pytest

from cut_sessions import SOURCES, hand_over, name_of
from http3_peers import BLOB, fetch
from limpid_process import DONE
from peers import Background, bytes_of
from udp_exchange import ask, question


WINDOW = 32  # datagrams under way at one time: no socket buffer overflows, so nothing may be lost
SEGMENT = 1200
UDP_SEGMENT = 103


def numbered(seed, number):
    return number.to_bytes(4, "big") + bytes_of(seed * 100_000 + number, SEGMENT - 4)


def send_stream(sock, to, seed, windows, whole=False):
    """Datagrams with numbers, a window at a time, each window confirmed. `whole`: one call for a window, which the kernel takes apart (UDP_SEGMENT)."""
    if whole:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
    for window in range(windows):
        datagrams = [numbered(seed, window * WINDOW + number) for number in range(WINDOW)]
        if whole:
            sock.sendto(b"".join(datagrams), to)
        else:
            for datagram in datagrams:
                sock.sendto(datagram, to)
        assert sock.recv(100) == f"window {window}".encode()


def receive_stream(sock, seed, windows):
    """Checks every octet. Returns how many datagrams came before one that was sent earlier."""
    overtaken, latest = 0, -1
    for window in range(windows):
        missing = set(range(window * WINDOW, (window + 1) * WINDOW))
        while missing:
            datagram, peer = sock.recvfrom(65536)
            number = int.from_bytes(datagram[:4], "big")
            assert datagram == numbered(seed, number)
            missing.remove(number)  # none comes twice
            overtaken += number < latest
            latest = max(latest, number)
        sock.sendto(f"window {window}".encode(), peer)
    return overtaken


@pytest.mark.parametrize("whole", [False, True], ids=["one by one", "segmented by the kernel"])
@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_bulk_is_intact_and_in_order_from_the_first_datagram_on(lab, cut_udp, source, whole):
    """Two streams of one client's, one each way, in exchanges of their own; both are handed over while they run."""
    limpid = cut_udp("--udp-timeout", "3s", *source)
    up_server, down_server = lab.server.datagrams(7001), lab.server.datagrams(7002)
    up_client, down_client = lab.client.datagrams(), lab.client.datagrams()
    windows = 150
    question(down_client, lab, 7002, b"begin")
    asked, peer = down_server.recvfrom(100)
    work = [Background(send_stream, up_client, (lab.server.address, 7001), 1, windows, whole), Background(receive_stream, up_server, 1, windows),
            Background(send_stream, down_server, peer, 2, windows, whole), Background(receive_stream, down_client, 2, windows)]
    _, overtaken_up, _, overtaken_down = (task.result(60) for task in work)
    assert overtaken_up + overtaken_down == 0
    assert limpid.counters()["udp_cut_through"] == 2
    flows = {flow["orig_dst"].rpartition(":")[2]: flow for flow in limpid.flows(2)}
    octets = windows * WINDOW * SEGMENT
    confirmed = sum(len(f"window {window}") for window in range(windows))
    assert (int(flows["7001"]["bytes_up"]), int(flows["7001"]["bytes_down"])) == (octets, confirmed)
    assert (int(flows["7002"]["bytes_up"]), int(flows["7002"]["bytes_down"])) == (confirmed + 5, octets)


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_offloads_off(lab, cut_udp, source, need):
    """Checksums are finished, and nothing is kept together."""
    need("ethtool", "ethtool")
    for host, links in ((lab.client, ["eth0"]), (lab.router, ["lan", "wan"]), (lab.server, ["eth0"])):
        for link in links:
            host.run("ethtool", "-K", link, "tx", "off", "rx", "off", "gso", "off", "gro", "off", "sg", "off", check=False)
    limpid = cut_udp(*source)
    server, client = lab.server.datagrams(7001), lab.client.datagrams()
    work = [Background(send_stream, client, (lab.server.address, 7001), 1, 30), Background(receive_stream, server, 1, 30)]
    for task in work:
        task.result(60)
    assert limpid.counters()["udp_cut_through"] == 1


def test_where_the_router_keeps_datagrams_together(lab, cut_udp, need):
    """rx-udp-gro-forwarding: what leaves must be as it came."""
    need("ethtool", "ethtool")
    for link in ("lan", "wan"):
        lab.router.run("ethtool", "-K", link, "gro", "on", "rx-udp-gro-forwarding", "on")
    limpid = cut_udp("--source", "none")
    server, client = lab.server.datagrams(7001), lab.client.datagrams()
    work = [Background(send_stream, client, (lab.server.address, 7001), 1, 60), Background(receive_stream, server, 1, 60)]
    for task in work:
        task.result(60)
    assert limpid.counters()["udp_cut_through"] == 1


@pytest.mark.parametrize("flags", [(), ("--change-local-addr=20ms", "--delay-stream=100ms")], ids=["stays", "migrates"])
def test_http3(lab, start, http3, tmp_path, flags):
    limpid = start("--udp", "443", "--cut-through", "always")
    fetched, said = fetch(lab, tmp_path, *flags)
    assert fetched == BLOB
    assert "path is ECN capable" in said
    counters = limpid.counters()
    assert counters["udp_cut_through"] >= 1
    assert counters["bytes_down"] < len(BLOB) / 2, "most of it was forwarded"


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "ebpf"])
def test_with_each_backend(lab, cut_udp, server, backend, need):
    if backend.startswith("iptables"):
        need(backend, "iptables")
    limpid = cut_udp("--backend", backend, "--udp-timeout", "2s")
    client = lab.client.datagrams()
    up, down, seen = hand_over(lab, limpid, client, server)
    for _ in range(20):
        assert ask(client, server, lab, b"more") == seen
    flow = limpid.flow()
    assert (flow["cut_through"], int(flow["bytes_up"]), int(flow["bytes_down"])) == ("yes", up + 80, down + 140)
    assert limpid.stop() == DONE
