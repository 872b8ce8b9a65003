"""--local and UDP: what the router's own programs ask, and what its own servers answer."""

import os
import subprocess
import sys

import pytest

from lab import SECONDS
from local_programs import ALICE, BOB, as_user
from peers import wait_until

DNS = 53


def ask(lab, client, server):
    """A question from the router, and the server's answer. Returns the port that the server saw."""
    client.sendto(b"question", (lab.server.address, DNS))
    question, peer = server.recvfrom(2000)
    assert (question, peer[0]) == (b"question", lab.wan)
    server.sendto(b"answer", peer)
    answer, sender = client.recvfrom(2000)
    assert (answer, sender[:2]) == (b"answer", (lab.server.address, DNS))
    return peer[1]


def test_datagrams(lab, start):
    server = lab.server.datagrams(DNS)
    client = lab.router.datagrams()
    own = client.getsockname()[1]
    limpid = start("--local", "--udp", DNS, "--fail", "open")
    assert ask(lab, client, server) != own
    assert ask(lab, client, server) != own
    assert limpid.counters()["udp_sessions_total"] == 1
    limpid.kill()
    assert ask(lab, client, server) == own
    start("--local", "--udp", DNS).stop()
    assert ask(lab, client, server) == own


@pytest.mark.not_ebpf("fragments are not intercepted")
def test_big_datagrams_of_this_host(lab, start):
    server = lab.server.datagrams(DNS)
    start("--local", "--udp", DNS)
    client = lab.router.datagrams()
    data = os.urandom(60_000)
    wait_until(lambda: ask(lab, client, server), "the neighbour is known")
    client.sendto(data, (lab.server.address, DNS))
    received, peer = server.recvfrom(65536)
    assert received == data and peer[1] != client.getsockname()[1]
    server.sendto(data[::-1], peer)
    assert client.recv(65536) == data[::-1]


def test_a_port_that_nobody_serves_is_told_to_the_program(lab, start):
    start("--local", "--udp", DNS)
    client = lab.router.datagrams()
    client.connect((lab.server.address, DNS))
    client.send(b"question")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_answers_of_a_server_here_come_from_its_own_port(lab, start):
    """Its datagrams go to ports that --udp all names, but they are answers."""
    limpid = start("--local", "--udp", "all", "--fail", "closed")
    service = lab.router.datagrams(5353)
    client = lab.server.datagrams()
    for _ in range(2):
        client.sendto(b"question", (lab.wan, 5353))
        _, peer = service.recvfrom(100)
        service.sendto(b"answer", peer)
        assert client.recvfrom(100)[1][:2] == (lab.wan, 5353)
    assert limpid.counters()["udp_sessions_total"] == 0


def test_nobody_outside_can_make_questions_pass_by(lab, start):
    server = lab.server.datagrams(DNS)
    limpid = start("--local", "--udp", DNS, "--fail", "closed")
    for port in range(2000, 2020):
        server.sendto(b"I am an answer", (lab.wan, port))
    client = lab.router.datagrams(2010)
    assert ask(lab, client, server) != 2010
    assert limpid.counters()["udp_sessions_total"] == 1


def test_users_choose_datagrams_too(lab, start):
    server = lab.server.datagrams(DNS)
    start("--local", "--udp", DNS, "--uid", ALICE)
    script = ("import socket,sys\n"
              "s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)\n"
              "s.sendto(b'x', (sys.argv[1], 53)); print(s.getsockname()[1])\n")
    for user in (ALICE, BOB):
        with lab.router.inside():
            done = subprocess.run([sys.executable, "-c", script, lab.server.address], capture_output=True, text=True, check=True,
                                  timeout=SECONDS, preexec_fn=as_user(user))
        seen = server.recvfrom(10)[1][1]
        assert (seen == int(done.stdout)) == (user == BOB)


RESOLVER = """
import os, socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind(('::1' if family == socket.AF_INET6 else '127.0.0.1', 5353))
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
print('ready', flush=True)
while True:
    question, client = s.recvfrom(2000)
    upstream = socket.socket(family, socket.SOCK_DGRAM)
    upstream.settimeout(5)
    upstream.sendto(b'via resolver: ' + question, (sys.argv[1], 53))
    s.sendto(upstream.recv(2000), client)
"""


def resolver(lab, user):
    """A resolver on the router's loopback that asks the server. Its socket is root's, itself it is not: as most daemons do it."""
    process = lab.router.start([sys.executable, "-c", RESOLVER, lab.server.address, user], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return {"ipv4": "127.0.0.1:5353", "ipv6": "[::1]:5353"}[lab.family]


@pytest.mark.not_ebpf("what no neighbour answers for never reaches an interface")
def test_the_resolver_of_this_host_as_target_makes_no_circle(lab, start):
    server = lab.server.datagrams(DNS)
    target = resolver(lab, BOB)
    limpid = start("--local", "--udp", DNS, "--target", target)
    assert f"left alone\" uid={BOB}" in limpid.messages
    # To somebody who does not even exist: the resolver answers in their name.
    lab.router.run("ip", {"ipv4": "-4", "ipv6": "-6"}[lab.family], "route", "add", "default", "dev", "wan")
    client = lab.router.datagrams()
    client.sendto(b"question", (lab.nowhere, DNS))
    question, asking = server.recvfrom(2000)
    assert question == b"via resolver: question" and asking[0] == lab.wan
    server.sendto(b"answer", asking)
    answer, sender = client.recvfrom(2000)
    assert (answer, sender[:2]) == (b"answer", (lab.nowhere, DNS))
    assert limpid.counters()["udp_sessions_total"] == 1


def test_a_resolver_that_cannot_be_told_apart_is_named(lab, launch, start):
    target = resolver(lab, 0)
    limpid = launch("--local", "--udp", DNS, "--target", target)
    assert limpid.process.wait(SECONDS) == 1
    assert "python" in limpid.messages and "(pid " in limpid.messages and "--exclude-cgroup" in limpid.messages
    missing = launch("--local", "--udp", DNS, "--target", target.replace("5353", "5354"))
    assert missing.process.wait(SECONDS) == 1
    assert "nothing listens there yet" in missing.messages
    start("--local", "--udp", DNS, "--target", target, "--uid", ALICE)
