"""via(upstream): which flows go through an upstream, and which do not, is for rules to say."""

import pytest

from limpid_process import BINARY
from peers import exchange, read_exactly
from policy_peers import client_hello
from udp_exchange import ask
from upstream_peers import NEEDS, at, danted, microsocks


@pytest.fixture
def socks(lab, folder, need):
    """socks(program) starts a SOCKS5 proxy on the server, port 1080; returns its URL."""
    made = []

    def make(program="microsocks"):
        need(*NEEDS[program])
        made.append({"microsocks": microsocks, "danted": danted}[program](lab.server, folder, 1080))
        return f"socks5://{at(lab.server.address, 1080)}"

    yield make
    for peer in made:
        peer.kill()
        print(f"--- {peer.name}\n{peer.said()}")


def test_a_name_decides_who_goes_through_an_upstream(lab, start, configure, socks):
    url = socks()
    limpid = start("-c", configure(tcp=443, upstream=[url], rules=["domain(suffix: secret.example) -> via(upstream)", "otherwise -> direct"]))
    listener = lab.server.listen(443)
    for name, seen in (("www.secret.example", lab.server.address), ("www.example", lab.client.address)):
        hello = client_hello(name)
        client = lab.client.connect(lab.server.address, 443)
        client.sendall(hello)
        server, peer = listener.accept()
        server.settimeout(10)
        assert peer[0] == seen
        assert read_exactly(server, len(hello)) == hello, "nothing of it is lost in the handshake"
        exchange(client, server)
        client.close()
        server.close()
    flows = {flow["name"]: flow for flow in limpid.flows(2)}
    assert flows["www.secret.example"]["upstream"] == url and flows["www.secret.example"]["rule"] == "1"
    assert "upstream" not in flows["www.example"]


def test_what_no_rule_decides_goes_through_the_usual_upstream(lab, start, configure, socks):
    start("-c", configure(tcp="80-82", upstream=[socks()], rules=["dport(80) -> direct", f"dport(81) -> target({at(lab.server.address, 8081)})"]))
    assert lab.dial(lab.server.listen(80)).seen[0] == lab.client.address
    assert lab.dial(lab.server.listen(8081), port=81).seen[0] == lab.client.address
    assert lab.dial(lab.server.listen(82)).seen[0] == lab.server.address


def test_datagrams_of_one_port_by_both_ways(lab, start, configure, socks):
    start("-c", configure(udp="7000-7001", upstream=[socks("danted")], rules=["dport(7000) -> via(upstream)", "otherwise -> direct"]))
    through, direct = lab.server.datagrams(7000), lab.server.datagrams(7001)
    client = lab.client.datagrams()
    for _ in range(3):
        assert ask(client, through, lab, port=7000)[0] == lab.server.address
        assert ask(client, direct, lab, port=7001)[0] == lab.client.address


def test_a_group_that_is_not_there_is_named(lab, configure):
    path = configure(tcp=80, upstream=["socks5://192.0.2.9:1080"], rules=["otherwise -> via(office)"])
    done = lab.router.run(BINARY, "check", path, check=False)
    assert done.returncode == 2
    assert "there is no group of upstreams 'office'" in done.stderr and "limpid.toml:4" in done.stderr
    configure(tcp=80, upstream=["socks5://192.0.2.9:1080"], rules=["otherwise -> via(upstream)"])
    assert lab.router.run(BINARY, "check", path, check=False).returncode == 0
