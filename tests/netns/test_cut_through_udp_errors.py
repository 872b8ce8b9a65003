"""What the network says of datagrams that are forwarded past the proxy: nobody there, too big, too far."""

import os
import socket

import pytest

import limpid_process
from cut_sessions import SOURCES, by_sockets, hand_over, name_of
from peers import wait_until
from udp_exchange import PORT, answer, ask, question


def refuses(sock):
    with pytest.raises(ConnectionRefusedError):
        for _ in range(50):
            sock.send(b"anybody?")
            sock.settimeout(0.1)
            try:
                sock.recv(100)
            except TimeoutError:
                pass


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
@pytest.mark.parametrize("who", ["client", "server"])
def test_a_closed_port_is_refused_and_a_restart_goes_on(lab, cut_udp, who, source):
    """The error reaches who is meant, from whom it knows; whoever comes back on the same port is heard again."""
    for host in (lab.client, lab.server):
        host.sysctl("net/ipv4/icmp_ratelimit", 0)
        host.sysctl("net/ipv6/icmp/ratelimit", 0)
    server = lab.server.datagrams(PORT)
    limpid = cut_udp(*source)
    client = lab.client.datagrams()
    seen = hand_over(lab, limpid, client, server)[2]
    relayed = by_sockets(limpid)
    port = client.getsockname()[1]
    if who == "server":
        server.close()
        client.connect((lab.server.address, PORT))
        refuses(client)
        server = lab.server.datagrams(PORT)
        client.settimeout(10)
        client.send(b"back?")
        assert answer(server) == (b"back?", seen)
        assert client.recv(100) == b"answer"
    else:
        client.close()
        server.connect(seen)
        refuses(server)
        client = lab.client.datagrams(port)
        server.settimeout(10)
        server.send(b"back?")
        assert client.recvfrom(100)[1][:2] == (lab.server.address, PORT)
    assert by_sockets(limpid) == relayed


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
@pytest.mark.parametrize("where", ["at the router", "behind it"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_smaller_mtu_is_learnt(lab, cut_udp, server, source, where, direction):
    """Too big for a way of the router's, or of somebody's behind it: the sender hears of it, and sends fragments itself."""
    if limpid_process.BACKEND == "ebpf" and direction == "down" and not source:
        pytest.skip("not by eBPF: the fragments that the server sends then are forwarded as they are; docs/ebpf.md")
    limpid = cut_udp(*source)
    client = lab.client.datagrams()
    seen = hand_over(lab, limpid, client, server)[2]
    link, host, peer = ("wan", lab.server, client) if direction == "up" else ("lan", lab.client, server)
    if where == "at the router":
        for namespace, name in ((lab.router, link), (host, "eth0")):
            namespace.run("ip", "link", "set", name, "mtu", 1300)
    else:
        # The kernel's own fragments must not come into it, so the route says it: what the host would say of a hop behind it.
        destination = lab.server.address if direction == "up" else lab.client.address
        lab.router.run("ip", "route", "replace", f"{destination}/{128 if lab.family == 'ipv6' else 32}", "dev", link, "mtu", "lock", "1300")
    payload = os.urandom(1400)

    def passes():
        try:
            peer.sendto(payload, (lab.server.address, PORT) if direction == "up" else seen)
        except OSError as error:
            assert error.errno == 90, error  # EMSGSIZE: it has just learnt
        receiver = server if direction == "up" else client
        receiver.settimeout(0.3)
        try:
            return receiver.recv(65536) == payload
        except TimeoutError:
            return False

    wait_until(passes, "it arrives")
    server.settimeout(10)
    client.settimeout(10)
    assert ask(client, server, lab) == seen


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_hops_and_traffic_class(lab, cut_udp, server, source):
    limpid = cut_udp(*source)
    client = lab.client.datagrams()
    hand_over(lab, limpid, client, server)
    ipv4 = client.family == socket.AF_INET
    level, tos, ttl, get_tos, get_ttl = ((socket.IPPROTO_IP, socket.IP_TOS, socket.IP_TTL, socket.IP_RECVTOS, 12) if ipv4 else
                                         (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVTCLASS, socket.IPV6_RECVHOPLIMIT))
    client.setsockopt(level, tos, 0xb8)
    client.setsockopt(level, ttl, 17)
    server.setsockopt(level, get_tos, 1)
    server.setsockopt(level, get_ttl, 1)
    question(client, lab)
    _, ancillary, _, _ = server.recvmsg(100, 200)
    assert sorted(data[0] for _, _, data in ancillary) == sorted((0xb8, 16))


def test_where_the_hops_end_the_router_says_so(lab, cut_udp, server):
    limpid = cut_udp()
    client = lab.client.datagrams()
    hand_over(lab, limpid, client, server)
    ipv4 = client.family == socket.AF_INET
    client.setsockopt(socket.IPPROTO_IP if ipv4 else socket.IPPROTO_IPV6, 11 if ipv4 else 25, 1)  # IP_RECVERR, IPV6_RECVERR
    client.setsockopt(socket.IPPROTO_IP if ipv4 else socket.IPPROTO_IPV6, socket.IP_TTL if ipv4 else socket.IPV6_UNICAST_HOPS, 1)
    question(client, lab)

    def reporter():
        try:
            _, ancillary, _, _ = client.recvmsg(100, 200, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return None
        return ancillary[0][2]

    error = wait_until(reporter, "an error comes")
    assert socket.inet_pton(client.family, lab.router.address) in error
