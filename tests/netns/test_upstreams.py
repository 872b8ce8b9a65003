"""Flows through upstreams: real SOCKS5 and CONNECT proxies, both families, every byte, and what happens when one of them goes."""

import random
import socket

import pytest

from control_client import verb
from limpid_process import DONE, FAILURE, USAGE
from peers import Background, Pattern, bytes_of, exchange, read_exactly, read_to_end, receive_digest, wait_until
from upstream_peers import NEEDS, PASSWORD, QUOTED, USER, Peer, at, is_reset, microsocks, through

MEBIBYTE = 1 << 20
KINDS = ["microsocks", "microsocks-password", "danted", "tinyproxy", "tinyproxy-password", "squid"]


def send_both_ways(connection, up, down, half_close=False):
    """Most proxies close both sides when one has finished: then nobody finishes before all has arrived."""
    if half_close:
        work = [Background(up.send, connection.client), Background(down.send, connection.server),
                Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
        _, _, at_server, at_client = (task.result() for task in work)
        assert (at_server, at_client) == ((up.digest(), up.length), (down.digest(), down.length))
        return
    up_bytes, down_bytes = b"".join(up.pieces()), b"".join(down.pieces())
    work = [Background(connection.client.sendall, up_bytes), Background(connection.server.sendall, down_bytes),
            Background(read_exactly, connection.server, len(up_bytes)), Background(read_exactly, connection.client, len(down_bytes))]
    _, _, at_server, at_client = (task.result() for task in work)
    assert at_server == up_bytes
    assert at_client == down_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_goes_through_it(lab, start, upstream, kind):
    peer = upstream(kind)
    limpid = start("--tcp", "80", "--upstream", peer.url)
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server, count=100_000)
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert (flow["upstream"], flow["target"], flow["orig_dst"]) == (peer.shown, at(lab.server.address, 1080), at(lab.server.address, 80))
    assert (flow["source"], flow["end"], int(flow["bytes_up"]), int(flow["bytes_down"])) == ("none", "closed", 100_000, 100_000)
    assert PASSWORD not in limpid.messages and QUOTED not in limpid.messages


@pytest.mark.parametrize("kind", ["microsocks", "danted", "tinyproxy", "squid"])
def test_random_sizes_arrive_whole(lab, start, upstream, kind):
    start("--tcp", "80", "--upstream", upstream(kind).url)
    listener = lab.server.listen(80)
    dice = random.Random(kind)
    for number in range(12):
        connection = through(lab, listener)
        up, down = (Pattern(number * 2 + way, dice.choice((1, 1448, 65_537, 400_000, 3 * MEBIBYTE))) for way in (0, 1))
        send_both_ways(connection, up, down, half_close=kind == "danted")


@pytest.mark.parametrize("kind", ["danted"])
def test_a_half_closed_flow_lives_on(lab, start, upstream, kind):
    start("--tcp", "80", "--upstream", upstream(kind).url)
    connection = through(lab, lab.server.listen(80))
    connection.client.sendall(b"question")
    connection.client.shutdown(socket.SHUT_WR)
    assert read_to_end(connection.server) == b"question"
    answer = bytes_of(1, 300_000)
    connection.server.sendall(answer)
    connection.server.close()
    assert read_to_end(connection.client) == answer


def test_a_server_that_speaks_first_is_heard(lab, start, upstream):
    """Its first words come right behind the upstream's answer."""
    start("--tcp", "80", "--upstream", upstream("microsocks").url)
    listener = lab.server.listen(80)
    for _ in range(20):
        client = lab.client.connect(lab.server.address, 80)
        server, _ = listener.accept()
        server.sendall(b"220 welcome\r\n")
        assert read_exactly(client, 13) == b"220 welcome\r\n"
        client.close()
        server.close()


def test_what_is_refused_there_is_refused_here(lab, start, upstream):
    limpid = start("--tcp", "80", "--upstream", upstream("microsocks").url)
    assert is_reset(lab)
    assert limpid.flow()["end"] == "connect_refused"


def test_an_upstream_in_scope_makes_no_circle(lab, start, upstream):
    limpid = start("--tcp", "all", "--upstream", upstream("microsocks").url)
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    assert limpid.counters()["flows_total"] == 1


def test_a_wrong_password_ends_the_flow(lab, start, upstream):
    peer = upstream("microsocks-password")
    limpid = start("--tcp", "80", "--upstream", peer.url.replace(USER, "somebody"))
    assert is_reset(lab)
    assert limpid.flow()["end"] == "upstream_failed"


def test_the_password_may_stand_in_a_file(lab, start, launch, upstream, tmp_path):
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    upstream("microsocks-password")
    url = f"socks5://{USER}@{at(lab.server.address, 1080)}?password-file={secret}"
    start("--tcp", "80", "--upstream", url)
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    absent = launch("--name", "other", "--tcp", "81", "--upstream", url + "x")
    assert absent.process.wait(10) == USAGE
    assert "password-file" in absent.messages


def test_the_next_serves_when_the_first_is_gone(lab, start, upstream):
    first, second = upstream("microsocks", 1080), upstream("tinyproxy", 1081)
    limpid = start("--tcp", "80", "--upstream", first.url, "--upstream", second.url, "--upstream-check", "0")
    listener = lab.server.listen(80)
    before = through(lab, listener)
    exchange(before.client, before.server)
    first.kill()
    # What was in the middle of it is over, and hears so.
    assert read_or_reset(before.client)
    before.client.close()
    for _ in range(5):
        after = through(lab, listener)
        exchange(after.client, after.server)
        after.client.close()
        after.server.close()
    assert sorted(flow["upstream"] for flow in limpid.flows(6)) == sorted([first.shown] + 5 * [second.shown])
    # Three failures in a row, then it is not asked any more.
    assert limpid.counters()["upstream_failovers"] == 3


def read_or_reset(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_an_upstream_that_comes_back_serves_again(lab, start, upstream, folder):
    first, second = upstream("microsocks", 1080), upstream("microsocks", 1081)
    limpid = start("--tcp", "80", "--upstream", first.url, "--upstream", second.url, "--upstream-check", "100ms,1,1")
    listener = lab.server.listen(80)
    first.kill()
    wait_until(lambda: "an upstream is down" in limpid.messages, "it is noticed")
    assert f"down: {first.shown} of group upstream\n" in verb(lab, "status").stdout
    connection = through(lab, listener)
    exchange(connection.client, connection.server)
    assert limpid.counters()["upstream_failovers"] == 0
    again = microsocks(lab.server, folder, 1080)
    wait_until(lambda: "an upstream is up again" in limpid.messages, "it is noticed")
    assert "all up\n" in verb(lab, "status").stdout
    connection = through(lab, listener)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["upstream"] == first.shown
    again.kill()


@pytest.mark.parametrize("check", ["0", "100ms,1,1"])
@pytest.mark.parametrize("down", ["reject", "direct"])
def test_a_group_that_is_down_does_what_was_declared(lab, start, down, check):
    urls = [f"socks5://{at(lab.server.address, port)}" for port in (1080, 1081)]
    limpid = start("--tcp", "80", "--upstream", urls[0], "--upstream", urls[1], "--upstream-down", down, "--upstream-check", check)
    listener = lab.server.listen(80)
    if down == "direct":
        connection = lab.dial_relayed(listener)
        assert connection.seen[0] == lab.client.address, "as without an upstream"
        exchange(connection.client, connection.server)
        connection.client.close()
        connection.server.close()
        assert (limpid.flow()["upstream"], limpid.counters()["upstream_direct"]) == ("direct", 1)
        return
    assert is_reset(lab)
    assert limpid.flow()["end"] in ("upstream_failed", "upstream_down")


def test_round_robin_gives_each_its_turn(lab, start, upstream):
    peers = [upstream("microsocks", port) for port in (1080, 1081)]
    limpid = start("--tcp", "80", "--upstream", peers[0].url, "--upstream", peers[1].url, "--upstream-choice", "round-robin")
    listener = lab.server.listen(80)
    for _ in range(6):
        connection = through(lab, listener)
        connection.client.close()
        connection.server.close()
    assert sorted(flow["upstream"] for flow in limpid.flows(6)) == sorted(3 * [peer.shown for peer in peers])


def test_a_fixed_target_and_the_way_out_are_upstreams_too(lab, start):
    limpid = start("--tcp", "80", "--upstream", f"tcp://{at(lab.server.address, 8080)}?name=fixed", "--upstream", f"direct://?interface=wan&source={lab.wan}&name=out")
    listener = lab.server.listen(8080)
    connection = lab.dial(listener, port=80)
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    listener.close()
    connection = lab.dial(lab.server.listen(80))
    assert connection.seen[0] == lab.wan
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert sorted(flow["upstream"] for flow in limpid.flows(2)) == ["fixed", "out"]


def test_the_plain_relay_goes_through_one_too(lab, relay, upstream):
    peer = upstream("tinyproxy")
    limpid = relay("8080", lab.server.address, "80", "--upstream", peer.url)
    connection = lab.dial(lab.server.listen(80), address=lab.router.address, port=8080)
    assert connection.seen[0] == lab.server.address
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["upstream"] == peer.shown


def test_a_relay_is_no_upstream_of_its_own(lab, launch):
    instance = launch("8080", lab.server.address, "80", "--upstream", f"socks5://{at(lab.router.address, 8080)}", verb="relay")
    assert instance.process.wait(10) == USAGE
    assert "circle" in instance.messages


@pytest.mark.parametrize("kind", ["microsocks", "danted", "tinyproxy"])
def test_a_flow_is_cut_through_behind_the_handshake(lab, start, upstream, kind):
    peer = upstream(kind)
    limpid = start("--tcp", "80", "--cut-through", "always", "--upstream", peer.url, "--upstream-check", "0")
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    wait_until(lambda: limpid.counters()["cut_through"] == 1, "it is cut through")
    wait_until(lambda: not lab.router.run("ss", "-Htn", "state", "established").stdout, "no socket is left")
    up, down = Pattern(1, 24 * MEBIBYTE), Pattern(2, 24 * MEBIBYTE)
    send_both_ways(connection, up, down, half_close=kind == "danted")
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert (flow["cut_through"], flow["upstream"]) == ("yes", peer.shown)
    assert (int(flow["bytes_up"]), int(flow["bytes_down"])) == (up.length + 1000, down.length + 1000)
    assert limpid.stop() == DONE


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_what_an_upstream_on_this_host_sends_does_not_come_back_to_it(lab, launch, folder, need, user):
    """With --local, its own connections are in scope but for that."""
    need(*NEEDS["microsocks"])
    need("setpriv", "util-linux")
    as_user = [] if user == "root" else ["setpriv", "--reuid=65534", "--clear-groups"]
    peer = Peer(lab.router, folder, "microsocks", 1080, [*as_user, "microsocks", "-i", "::" if lab.family == "ipv6" else "0.0.0.0", "-p", "1080"])
    limpid = launch("--tcp", "80", "--local", "--workers", "2", "--upstream", f"socks5://{at(lab.wan, 1080)}")
    if user == "root":
        assert limpid.process.wait(20) == FAILURE
        assert "would come back to it" in limpid.messages
        return
    limpid.ready()
    listener = lab.server.listen(80)
    client = lab.router.connect(lab.server.address, 80)
    server, seen = listener.accept()
    server.settimeout(10)
    assert seen[0] == lab.wan
    exchange(client, server)
    client.close()
    server.close()
    assert limpid.flow()["upstream"].startswith("socks5://")
    assert limpid.counters()["flows_total"] == 1
    peer.kill()
