"""UDP sessions that leave the proxy: datagrams are forwarded past it, the access log still has all of them, and they outlive the daemon."""

import os
import socket

import pytest

import limpid_process
from cut_sessions import ENOUGH, SOURCES, by_sockets, hand_over, name_of
from limpid_process import DONE
from peers import wait_until
from udp_exchange import PORT, all_get_their_own_answers, answer, ask, nothing_comes, question

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_datagrams_are_forwarded_and_the_log_has_them(lab, cut_udp, server, source):
    limpid = cut_udp(*source, "--udp-timeout", "2s")
    client = lab.client.datagrams()
    up, down, seen = hand_over(lab, limpid, client, server)
    relayed = by_sockets(limpid)
    for number in range(100):
        payload = os.urandom(number * 14)
        assert ask(client, server, lab, payload) == seen, "for the server, nothing has changed"
        up, down = up + len(payload), down + 3 + min(len(payload), 1000)
    assert by_sockets(limpid) == relayed, "the relay has seen none of it"
    flow = limpid.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["end"], flow["cut_through"]) == (up, down, "closed", "yes")
    assert (flow["proto"], flow["client"].rpartition(":")[2]) == ("udp", str(client.getsockname()[1]))
    counters = limpid.counters_with(udp_sessions_total=1, udp_sessions_ended=1, udp_cut_through_open=0)
    assert (counters["cut_through_bytes_up"], counters["cut_through_bytes_down"]) == (up, down)
    assert limpid.stop() == DONE


def router_sockets(lab):
    """UDP sockets on the router that have an address of the client's or the router's own: not the listeners."""
    return [line for line in lab.router.run("ss", "-Hanu").stdout.splitlines()
            if "127.0.0.1:" not in line and "[::1]:" not in line]


@pytest.mark.not_ebpf("the port of a datagram is not kept")
def test_a_session_with_its_own_port_leaves_nothing_behind(lab, cut_udp, server):
    limpid = cut_udp()
    client = lab.client.datagrams()
    hand_over(lab, limpid, client, server)
    wait_until(lambda: not router_sockets(lab), "its socket is closed")
    counters = limpid.counters()
    assert (counters["udp_cut_through_open"], counters["udp_sessions_ended"]) == (1, 0)
    ask(client, server, lab)


def test_a_question_and_its_answer_do_not_pay_for_it(lab, cut_udp, server):
    limpid = cut_udp()
    for _ in range(20):
        ask(lab.client.datagrams(), server, lab)
    assert limpid.counters_with(udp_datagrams_down=20)["udp_cut_through"] == 0


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
@pytest.mark.parametrize("size", [0, 1, 1200, 1472, 1473, 9000, 65000, 65507])
def test_every_size_arrives_whole_both_ways(lab, cut_udp, server, source, size):
    """Fragments are put together and relayed by a socket, the rest passes it by; the log has all of it in one line."""
    if limpid_process.BACKEND == "ebpf" and size > 1452:
        pytest.skip("not by eBPF: fragments are forwarded as they are; docs/ebpf.md")
    limpid = cut_udp(*source, "--udp-timeout", "2s")
    client = lab.client.datagrams()
    for sock in (client, server):
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    up, down, seen = hand_over(lab, limpid, client, server)
    for number in range(20):
        payload = os.urandom(size)
        question(client, lab, payload=payload)
        received, peer = server.recvfrom(65536)
        assert received == payload and peer == seen
        server.sendto(payload[::-1], seen)
        assert client.recvfrom(65536)[0] == payload[::-1]
        up, down = up + size, down + size
        if number % 5 == 0:
            ask(client, server, lab, b"small")
            up, down = up + 5, down + 8
    flows = limpid.flows(1)
    assert (sum(int(flow["bytes_up"]) for flow in flows), sum(int(flow["bytes_down"]) for flow in flows)) == (up, down)
    assert len(flows) == 1 and flows[0]["cut_through"] == "yes"


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_others_are_spoken_to_from_the_same_socket(lab, cut_udp, server, source):
    """Endpoint-independent mapping and filtering hold while an exchange is forwarded: other servers see the same port, and strangers may answer."""
    limpid = cut_udp(*source)
    client = lab.client.datagrams()
    _, _, seen = hand_over(lab, limpid, client, server)
    others = [lab.server.datagrams(port) for port in range(7001, 7005)]
    for turn in range(ENOUGH):
        for number, other in enumerate(others):
            assert ask(client, other, lab, port=7001 + number) == seen
        assert ask(client, server, lab) == seen
        if turn == 0:
            stranger = lab.server.datagrams(9999)
            stranger.sendto(b"unexpected", seen)
            assert client.recvfrom(100)[0] == b"unexpected"
    for number, other in enumerate(others):
        for _ in range(ENOUGH):
            assert ask(client, other, lab, port=7001 + number) == seen
    assert ask(client, server, lab) == seen
    # Where the socket is kept, it is for the others.
    keeps = bool(source) or limpid_process.BACKEND == "ebpf"
    assert limpid.counters()["udp_cut_through"] == (1 if keeps else 5)


@pytest.mark.parametrize("source", [(), ("--source", "none"), ("--source", "address+port")], ids=name_of)
def test_strangers_stay_out_where_they_are_to(lab, cut_udp, server, source):
    limpid = cut_udp("--udp-filtering", "address-and-port-dependent", *source)
    client = lab.client.datagrams()
    _, _, seen = hand_over(lab, limpid, client, server)
    lab.server.datagrams(9999).sendto(b"unexpected", seen)
    nothing_comes(client)
    ask(client, server, lab)


@pytest.mark.parametrize("source", [(), ("--source", "none"), ("--source", "address+port")], ids=name_of)
def test_a_fixed_target(lab, cut_udp, source):
    server = lab.server.datagrams(8080)
    target = f"[{lab.server.address}]:8080" if lab.family == "ipv6" else f"{lab.server.address}:8080"
    limpid = cut_udp("--target", target, "--udp-timeout", "2s", *source)
    client = lab.client.datagrams()
    elsewhere = "2001:db8:9::9" if lab.family == "ipv6" else "203.0.113.9"
    octets = 0
    for number in range(30):
        payload = os.urandom(number * 40)
        question(client, lab, payload=payload, address=elsewhere)
        assert answer(server, payload)[0] == payload
        received, sender = client.recvfrom(65536)
        assert (received, sender[:2]) == (payload, (elsewhere, PORT)), "answers come from whom the client wrote to"
        octets += len(payload)
    flow = limpid.flow()
    assert (flow["cut_through"], int(flow["bytes_up"]), int(flow["bytes_down"])) == ("yes", octets, octets)
    assert limpid.counters()["udp_datagrams_up"] < 20


def test_many_clients_never_get_each_others_answers(lab, cut_udp, server):
    limpid = cut_udp("--workers", "2")
    clients = [lab.client.datagrams() for _ in range(40)]
    for client in clients:
        for _ in range(ENOUGH // 2):
            ask(client, server, lab)
    limpid.counters_with(udp_cut_through=40)
    all_get_their_own_answers(clients, server, lab)


def test_two_servers_for_one_port_of_the_routers(lab, cut_udp):
    """Sessions of different clients' ports to one server: each has a port of its own, also one that has left."""
    limpid = cut_udp("--source", "address")
    server = lab.server.datagrams(PORT)
    lab.router.sysctl("net/ipv4/ip_local_port_range", "50000 50019")
    seen = []
    for _ in range(12):
        client = lab.client.datagrams()
        seen.append(hand_over(lab, limpid, client, server)[2])
    assert len(set(seen)) == 12


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_what_goes_one_way_only_is_forwarded_too(lab, cut_udp, server, source):
    """Logs, media: after many more datagrams, and ended as what has no answer."""
    limpid = cut_udp("--udp-unanswered-timeout", "2s", *source)
    client = lab.client.datagrams()
    for number in range(1000):
        question(client, lab, payload=f"{number:04}".encode())
        assert server.recv(100) == f"{number:04}".encode()
    counters = limpid.counters()
    assert counters["udp_cut_through"] == 1 and counters["udp_datagrams_up"] < 500
    flow = limpid.flow()
    assert (flow["end"], flow["cut_through"], flow["bytes_up"], flow["bytes_down"]) == ("unanswered", "yes", "4000", "0")
    # An answer past the relay counts as one.
    for number in range(300):
        question(client, lab)
        _, peer = server.recvfrom(100)
    server.sendto(b"late", peer)
    assert client.recv(100) == b"late"
    limpid.flows(1)
    assert limpid.stop() == DONE
    assert [flow["end"] for flow in limpid.flows(2)] == ["unanswered", "stopped"]
