"""What a datagram's journey looks like from outside: hops that traceroute and mtr find, through Limpid as through a plain router.

    client --- router (Limpid) --- server (forwards here) --- far
"""

import json
import os
import re
import socket
import struct

import pytest

from peers import wait_until

PORT = 7000
TRACEROUTE_PORTS = "33434-33534"
MTR_PORTS = "33000-65535"


@pytest.fixture
def far(lab):
    """A host behind the server. The server of the lab is the second hop on the way there."""
    host = lab.another_host("far")
    host.addresses = {"ipv4": "203.0.113.2", "ipv6": "2001:db8:3::2"}

    def ip(where, *lines):
        where.run("ip", "-batch", "-", input="\n".join(lines))

    ip(lab.server, f"link add far type veth peer name eth0 netns /proc/{os.getpid()}/fd/{host.namespace}",
       "link set far up", "addr add 203.0.113.1/24 dev far", "addr add 2001:db8:3::1/64 dev far nodad")
    ip(host, "link set lo up", "link set eth0 up", "addr add 203.0.113.2/24 dev eth0",
       "addr add 2001:db8:3::2/64 dev eth0 nodad", "route add default via 203.0.113.1",
       "route add default via 2001:db8:3::1")
    ip(lab.router, "route add 203.0.113.0/24 via 198.51.100.2", "route add 2001:db8:3::/64 via 2001:db8:2::2")
    for key in ("net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"):
        lab.server.sysctl(key, 1)
    for each in (lab.server, host):  # not the router: its own limit is part of what is tested
        each.sysctl("net/ipv4/icmp_ratelimit", 0)
        each.sysctl("net/ipv6/icmp/ratelimit", 0)
    return host


def way_to(lab, far):
    return [lab.router.address, lab.server.address, far.address]


def traceroute(lab, far):
    """Hop → everybody who has answered for it."""
    done = lab.client.run("traceroute", "-4" if lab.family == "ipv4" else "-6", "-n", "-w", "2", "-m", "5", far.address,
                          timeout=30)
    hops = [line.split() for line in done.stdout.splitlines()[1:]]
    times = re.compile(r"[0-9.]+|ms")
    return {int(number): [word for word in words if not times.fullmatch(word) or word.count(".") == 3]
            for number, *words in hops}


def test_traceroute_shows_the_hops_of_a_plain_router(lab, start, need, far):
    need("traceroute", "traceroute")
    plain = traceroute(lab, far)
    assert plain == {number + 1: [address] for number, address in enumerate(way_to(lab, far))}
    limpid = start("--udp", TRACEROUTE_PORTS)
    assert traceroute(lab, far) == plain
    counters = limpid.counters()
    assert counters["udp_ttl_expired"] == 3, "three questions a hop: the first ones ended here"
    assert counters["udp_icmp_errors"] >= 4, "those of the next hops were passed on"
    assert counters["udp_datagrams_up"] >= 6


def test_mtr_shows_them_too(lab, start, need, far):
    need("mtr", "mtr-tiny")
    limpid = start("--udp", MTR_PORTS)
    done = lab.client.run("mtr", "--udp", "--json", "--no-dns", "--report-cycles", "2", "--interval", "0.2",
                          "--gracetime", "1", far.address, timeout=30)
    hubs = json.loads(done.stdout)["report"]["hubs"]
    assert [hub["host"] for hub in hubs] == way_to(lab, far)
    assert [hub["Loss%"] for hub in hubs] == [0.0, 0.0, 0.0]
    assert limpid.counters()["udp_ttl_expired"] == 2


class Errors:
    """Reads the ICMP errors that a socket's own datagrams met: ip(7), IP_RECVERR."""

    IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, 0x2000

    def __init__(self, sock):
        self._sock = sock
        self._ipv4 = sock.family == socket.AF_INET
        level = socket.IPPROTO_IP if self._ipv4 else socket.IPPROTO_IPV6
        sock.setsockopt(level, self.IP_RECVERR if self._ipv4 else self.IPV6_RECVERR, 1)

    def next(self):
        """(type, code), who reported it, whom the datagram was for, what was in it."""
        def poll():
            try:
                return self._sock.recvmsg(65536, 512, self.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None

        payload, control, _, peer = wait_until(poll, "an ICMP error")
        (_, _, data), = control
        _, _, kind, code = struct.unpack_from("=IBBB", data)
        offender = data[20:24] if self._ipv4 else data[24:40]
        return (kind, code), socket.inet_ntop(self._sock.family, offender), peer[:2], payload


def hop_limited(lab, host, hops, port=0):
    sock = host.datagrams(port)
    if lab.family == "ipv4":
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    return sock, Errors(sock)


def time_exceeded(lab):
    return (11, 0) if lab.family == "ipv4" else (3, 0)


def test_a_datagram_that_ends_at_us_or_behind_us_is_reported_to_its_sender(lab, start, far):
    server = far.datagrams(PORT)
    limpid = start("--udp", PORT)
    for hops, reporter in ((1, lab.router.address), (2, lab.server.address)):
        client, errors = hop_limited(lab, lab.client, hops)
        client.sendto(b"how far?", (far.address, PORT))
        assert errors.next() == (time_exceeded(lab), reporter, (far.address, PORT), b"how far?")
    client, _ = hop_limited(lab, lab.client, 3)
    client.sendto(b"far enough", (far.address, PORT))
    assert server.recv(100) == b"far enough", "the first one that has come this far"
    counters = limpid.counters()
    assert counters["udp_ttl_expired"] == 1
    assert counters["udp_sessions_total"] == 2, "none for the one that ended here"


def test_an_answer_that_ends_at_us_is_reported_to_the_server(lab, start):
    server, errors = hop_limited(lab, lab.server, 1, PORT)
    limpid = start("--udp", PORT)
    client = lab.client.datagrams()
    client.sendto(b"question", (lab.server.address, PORT))
    _, peer = server.recvfrom(100)
    server.sendto(b"answer", peer)
    assert errors.next() == (time_exceeded(lab), lab.wan, peer[:2], b"answer")
    assert limpid.counters()["udp_ttl_expired"] == 1


@pytest.mark.parametrize("milliseconds, reported", [(60_000, 6), (0, 20)])
def test_reports_are_limited_as_the_kernel_limits_its_own(lab, start, milliseconds, reported):
    lab.router.sysctl("net/ipv4/icmp_ratelimit", milliseconds)
    lab.router.sysctl("net/ipv6/icmp/ratelimit", milliseconds)
    limpid = start("--udp", PORT)
    client, errors = hop_limited(lab, lab.client, 1)
    for number in range(20):
        while True:
            try:
                client.sendto(str(number).encode(), (lab.server.address, PORT))
                break
            except OSError:
                pass  # an error about an earlier one, which the kernel tells of here too
    wait_until(lambda: limpid.counters()["udp_ttl_expired"] == 20, "all have ended here")
    assert [errors.next()[3] for _ in range(reported)] == [str(number).encode() for number in range(reported)]
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recvmsg(100, 512, Errors.MSG_ERRQUEUE)
