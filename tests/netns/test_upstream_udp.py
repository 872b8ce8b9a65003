"""Datagrams through upstreams: Dante's UDP ASSOCIATE, and what was declared where no upstream carries them."""

import random
import socket

import pytest

from peers import bytes_of, wait_until
from udp_exchange import PORT, ask, nothing_comes, question
from upstream_peers import NEEDS, at, danted, tinyproxy


@pytest.fixture
def dante(lab, folder, need):
    need(*NEEDS["danted"])
    peer = danted(lab.server, folder, 1080)
    peer.url = f"socks5://{at(lab.server.address, 1080)}"
    yield peer
    peer.kill()
    print(f"--- danted\n{peer.said()}")


def test_questions_and_answers_go_through_it(lab, start, dante):
    limpid = start("--udp", str(PORT), "--upstream", dante.url)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    seen = {ask(client, server, lab, b"question %d" % number)[0] for number in range(20)}
    assert seen == {lab.server.address}, "the upstream has sent them"
    limpid.counters_with(udp_sessions_total=1, udp_datagrams_up=20, udp_datagrams_down=20)
    assert limpid.stop() == 0
    flow = limpid.flow()
    assert (flow["proto"], flow["upstream"], flow["source"]) == ("udp", dante.url, "none")


def test_every_size_arrives_whole(lab, start, dante):
    start("--udp", str(PORT), "--upstream", dante.url)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    dice = random.Random(5)
    for size in [0, 1, 1200, 1400] + [dice.randrange(1400) for _ in range(20)]:
        payload = bytes_of(size, size)
        question(client, lab, PORT, payload)
        received, peer = server.recvfrom(65536)
        assert received == payload
        server.sendto(payload[::-1], peer)
        assert client.recvfrom(65536)[0] == payload[::-1]


def test_one_session_asks_several_servers(lab, start, dante):
    limpid = start("--udp", f"{PORT}-{PORT + 3}", "--upstream", dante.url)
    client = lab.client.datagrams()
    servers = [(PORT + number, lab.server.datagrams(PORT + number)) for number in range(4)]
    for port, server in servers:
        ask(client, server, lab, b"x", port)
    assert limpid.counters()["udp_sessions_total"] == 1


def test_a_session_ends_with_the_upstream_and_begins_anew(lab, start, dante, folder):
    limpid = start("--udp", str(PORT), "--upstream", dante.url, "--upstream-check", "0")
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    ask(client, server, lab)
    dante.kill()
    limpid.counters_with(udp_sessions_ended=1)
    again = danted(lab.server, folder, 1080)
    ask(client, server, lab)
    again.kill()


@pytest.mark.parametrize("way", ["reject", "direct"])
def test_what_was_declared_happens(lab, start, dante, way):
    limpid = start("--udp", str(PORT), "--upstream", dante.url, "--upstream-udp", way)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    if way == "direct":
        assert ask(client, server, lab)[0] == lab.client.address
        return
    client.connect((lab.server.address, PORT))
    client.send(b"question")
    with pytest.raises(OSError):  # ICMP says so
        client.recv(100)
    nothing_comes(server)
    assert limpid.counters()["udp_dropped"] == 1


@pytest.mark.parametrize("down", ["reject", "direct"])
def test_a_proxy_that_carries_none_lets_none_by(lab, start, folder, need, down):
    """Whatever was declared for a group that is down: this one is not."""
    need(*NEEDS["tinyproxy"])
    peer = tinyproxy(lab.server, folder, 8888)
    limpid = start("--udp", str(PORT), "--tcp", "80", "--upstream", f"http://{at(lab.server.address, 8888)}", "--upstream-down", down)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    question(client, lab)
    wait_until(lambda: limpid.counters()["udp_dropped"] == 1, "it is refused")
    nothing_comes(server)
    peer.kill()


def test_when_the_group_is_down_datagrams_may_go_directly(lab, start):
    limpid = start("--udp", str(PORT), "--upstream", f"socks5://{at(lab.server.address, 1080)}", "--upstream-down", "direct", "--upstream-check", "0")
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    assert ask(client, server, lab)[0] == lab.client.address
    assert ask(client, server, lab)[0] == lab.client.address
    assert limpid.counters()["upstream_direct"] == 1


def test_nobody_but_the_relay_is_heard(lab, start, dante):
    """A stranger who writes to the association's socket is not taken for its relay."""
    limpid = start("--udp", str(PORT), "--upstream", dante.url)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    ask(client, server, lab)
    # The router's own UDP sockets: one of them is the association's.
    lines = lab.router.run("ss", "-Hlun").stdout.splitlines() + lab.router.run("ss", "-Hun").stdout.splitlines()
    ports = {int(line.split()[3].rpartition(":")[2]) for line in lines if line.split()[3].rpartition(":")[2].isdigit()}
    stranger = lab.server.datagrams()
    header = b"\0\0\0\1" + socket.inet_aton("198.51.100.2") + PORT.to_bytes(2, "big")
    for port in ports:
        stranger.sendto(header + b"forged", (lab.wan, port))
    assert ask(client, server, lab, b"still there")
    assert limpid.counters()["udp_datagrams_down"] == 2
