"""Upstreams behind upstreams, upstreams by name, and checks that ask for more than a connection."""

import contextlib

import pytest

import limpid_process
from hosts_file import Names
from peers import Background, exchange, read_exactly, wait_until, bytes_of
from upstream_peers import at, is_reset, through

SECOND = {"ipv4": "198.51.100.7", "ipv6": "2001:db8:2::7"}  # another address of the server's


def loopback(lab):
    return {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]


def with_second_address(lab):
    lab.server.run("ip", "address", "add", f"{SECOND[lab.family]}/{64 if lab.family == 'ipv6' else 24}", "dev", "eth0",
                   *(["nodad"] if lab.family == "ipv6" else []))
    return SECOND[lab.family]


def limpid_on(lab, *arguments):
    return lab.router.run(limpid_process.BINARY, *arguments, check=False)


# Far proxies are named by the server's loopback address: only who speaks to them through the near one, which runs there, can mean it.


@pytest.mark.parametrize("far,near", [("microsocks", "tinyproxy"), ("tinyproxy", "danted"), ("microsocks-password", "microsocks-password")])
def test_one_through_another(lab, start, configure, upstream, far, near):
    first, last = upstream(near, 1080), upstream(far, 1081)
    if far == "tinyproxy":  # it listens on one address
        inner = last.url
    else:
        inner = last.url.replace(at(lab.server.address, 1081), at(loopback(lab), 1081))
    limpid = start("-c", configure(tcp="80", rules=["otherwise -> via(far)"],
                                   upstreams={"far": {"servers": [inner], "via": "near"}, "near": {"servers": [first.url]}}))
    connection = through(lab, lab.server.listen(80))
    up, down = bytes_of(1, 700_000), bytes_of(2, 900_000)
    work = [Background(connection.client.sendall, up), Background(connection.server.sendall, down),
            Background(read_exactly, connection.server, len(up)), Background(read_exactly, connection.client, len(down))]
    assert [task.result() for task in work][2:] == [up, down]
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert flow["target"] == at(lab.server.address, 1080) and flow["upstream"].endswith(":1081") and flow["end"] == "closed"
    limpid.counters()
    assert limpid.messages.count("flows=1 failures=0") == 2, "it is counted in both groups"


def test_a_chain_goes_around_what_is_down(lab, start, configure, upstream):
    """The first hop refuses, the first far proxy too: four ways, of which one works."""
    near, far = upstream("tinyproxy", 1080), upstream("microsocks", 1081)
    dead = f"http://{at(lab.server.address, 1)}"
    limpid = start("-c", configure(
        tcp="80-81", rules=["otherwise -> via(far)"],
        upstreams={"far": {"servers": [f"socks5://{at(loopback(lab), 2)}", f"socks5://{at(loopback(lab), 1081)}"], "via": "near", "check": "0"},
                   "near": {"servers": [dead, near.url], "check": "0"}}))
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["upstream"].endswith(":1081")
    with pytest.raises(ConnectionResetError):  # nobody listens there, and both links say so
        lab.client.connect(lab.server.address, 81).recv(1)
    assert limpid.flows(2)[1]["end"] == "connect_refused"
    near.kill()
    far.kill()
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            lab.client.connect(lab.server.address, 80).recv(1)
    assert all(flow["end"] in ("upstream_failed", "upstream_down") for flow in limpid.flows(5)[2:])


def test_the_name_of_an_upstream_is_looked_up_again(lab, start, configure, tmp_path):
    names = Names(tmp_path)
    second = with_second_address(lab)
    names.say(f"{lab.server.address} proxy.test", f"{lab.server.address} other.test")
    old, new = lab.server.listen(8080, address=lab.server.address), lab.server.listen(8080, address=second)

    def write(name):
        return configure(tcp="80", upstreams={"office": {"servers": [f"tcp://{name}:8080"], "check": "0"}}, rules=["otherwise -> via(office)"],
                         **{"upstream-resolve": "100ms"})

    limpid = start("-c", write("proxy.test"), wrapper=names.wrapper)
    alive = lab.dial(old, port=80)
    exchange(alive.client, alive.server)
    names.say(f"{second} proxy.test", f"{lab.server.address} other.test")
    wait_until(lambda: "an upstream's name means another address" in limpid.messages, "it is noticed")
    connection = lab.dial(new, port=80)
    exchange(connection.client, connection.server)
    exchange(alive.client, alive.server, seed=2)
    names.say(f"{lab.server.address} other.test")
    wait_until(lambda: "cannot be resolved" in limpid.messages, "it is noticed")
    assert lab.dial(new, port=80)
    # A reload brings another name, which is followed as well.
    write("other.test")
    done = limpid_on(lab, "reload")
    assert done.returncode == 0, done.stderr
    assert lab.dial(old, port=80)
    names.say(f"{second} other.test")
    wait_until(lambda: limpid.messages.count("means another address") == 2, "it is noticed")
    assert lab.dial(new, port=80)


def test_limpid_relay_follows_names_of_upstreams_too(lab, relay, tmp_path):
    names = Names(tmp_path)
    second = with_second_address(lab)
    names.say(f"{lab.server.address} proxy.test")
    old, new = lab.server.listen(8080, address=lab.server.address), lab.server.listen(8080, address=second)
    limpid = relay("--upstream", "tcp://proxy.test:8080", "--upstream-check", "0", "--upstream-resolve", "100ms", "7000", lab.server.address, "80", wrapper=names.wrapper)
    assert lab.dial(old, address=lab.router.address, port=7000)
    names.say(f"{second} proxy.test")
    wait_until(lambda: "an upstream's name means another address" in limpid.messages, "it is noticed")
    assert lab.dial(new, address=lab.router.address, port=7000)


@pytest.mark.parametrize("kind", ["microsocks", "tinyproxy"])
def test_a_check_asks_for_a_connection_to_its_target(lab, start, configure, upstream, kind):
    """The upstream is there all the time; what it reaches is not."""
    peer = upstream(kind)
    target = at(lab.server.address, 9000)
    limpid = start("-c", configure(
        tcp="80", rules=["otherwise -> via(office)"],
        upstreams={"line": {"servers": ["direct://?interface=wan&name=line"], "check": "100ms,2,2", "check-target": target},
                   "office": {"servers": [peer.url], "check": "100ms,2,2", "check-target": target},
                   "far": {"servers": [peer.url], "via": "office", "check": "100ms,2,2"}}))
    wait_until(lambda: limpid.messages.count("an upstream is down") == 3, "all are down")
    assert limpid.messages.count("because=\"the upstream: ") == 1
    assert "because=\"connect: Connection refused\"" in limpid.messages and "because=\"no upstream of office is up\"" in limpid.messages
    assert limpid.counters()["upstreams_down"] == 3
    assert is_reset(lab)
    listener = lab.server.listen(9000)
    with contextlib.closing(listener):
        wait_until(lambda: limpid.messages.count("an upstream is up again") == 3, "all are up")
        connection = lab.dial(lab.server.listen(80))
        exchange(connection.client, connection.server)
        assert connection.seen[0] == lab.server.address
    wait_until(lambda: limpid.messages.count("an upstream is down") >= 5, "and down")
