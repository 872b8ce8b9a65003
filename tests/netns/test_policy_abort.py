"""`limpid reload --abort`: what the new rules forbid ends at once, wherever it is; everything else goes on."""

import contextlib
import json

import pytest

import limpid_process
from cut_flows import dial_cut
from cut_sessions import hand_over
from peers import exchange, read_exactly, wait_until
from policy_peers import client_hello
from udp_exchange import ask

SCOPE = {"tcp": "7000-7003", "udp": "7000-7003"}


def reload(lab, *flags):
    done = lab.router.run(limpid_process.BINARY, "reload", "--json", *flags)
    answer = json.loads(done.stdout)
    assert answer["ok"]
    return answer.get("ended")


def is_reset(connection):
    with pytest.raises(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


def is_refused(client, lab, port):
    """Datagrams meet the new rules: the error of one is heard at the next call."""
    client.connect((lab.server.address, port))

    def refused():
        try:
            client.send(b"question")
            client.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                client.recv(100)
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refused, "ICMP says so")
    return True


def test_connections_and_sessions_that_are_relayed(lab, start, configure):
    limpid = start("-c", configure(rules=["domain(never.example) && dport(7003) -> reject", "otherwise -> direct"], **SCOPE), "--sniff-timeout", "10s")
    flows = {port: lab.dial(lab.server.listen(port)) for port in (7000, 7001)}
    servers = {port: lab.server.datagrams(port) for port in (7000, 7001)}
    clients = {port: lab.client.datagrams() for port in (7000, 7001)}
    for port in (7000, 7001):
        exchange(flows[port].client, flows[port].server)
    seen = {port: ask(clients[port], servers[port], lab, port=port) for port in (7000, 7001)}
    # By the name that was looked at when it began: bytes that nobody has any more.
    listener, named = lab.server.listen(7003), {}
    for name in ("a.example", "b.example"):
        client = lab.client.connect(lab.server.address, 7003)
        client.sendall(client_hello(name))
        server, _ = listener.accept()
        server.settimeout(10)
        read_exactly(server, len(client_hello(name)))
        named[name] = client, server
    forbidden = ["dport(7001) && src(@clients) -> reject", "domain(b.example) -> drop", "otherwise -> direct"]
    configure(rules=forbidden, sets={"clients": [lab.client.address]}, **SCOPE)
    assert reload(lab) is None
    for port in (7000, 7001):
        exchange(flows[port].client, flows[port].server)
        assert ask(clients[port], servers[port], lab, port=port) == seen[port]
    assert reload(lab, "--abort") == 3, "a connection and a session to that port, and one by name"
    assert is_reset(flows[7001].client) and is_reset(flows[7001].server)
    assert is_reset(named["b.example"][0]) and is_reset(named["b.example"][1])
    assert is_refused(clients[7001], lab, 7001)
    exchange(flows[7000].client, flows[7000].server)
    assert ask(clients[7000], servers[7000], lab, port=7000) == seen[7000]
    exchange(*named["a.example"])
    assert reload(lab, "--abort") == 0, "it says nothing twice"
    ended = {(flow["proto"], flow["orig_dst"].rsplit(":", 1)[1]): (flow["end"], flow["rule"]) for flow in limpid.flows(4)}
    assert ended[("tcp", "7001")] == ended[("udp", "7001")] == ("rejected", "1")
    assert ended[("tcp", "7003")] == ("rejected", "2")


def test_what_was_cut_through(lab, start, configure):
    if not limpid_process.has_ebpf():
        pytest.skip("this build has no cut-through: it was made without clang, bpftool or libbpf")
    limpid = start("-c", configure(rules=["otherwise -> direct"], **SCOPE), "--cut-through", "always")
    kept, gone = (dial_cut(lab, limpid, lab.server.listen(port)) for port in (7000, 7001))
    servers = {port: lab.server.datagrams(port) for port in (7000, 7001)}
    clients = {port: lab.client.datagrams() for port in (7000, 7001)}
    for port in (7000, 7001):
        hand_over(lab, limpid, clients[port], servers[port], port=port)
    limpid.counters_with(udp_cut_through_open=2)
    assert reload(lab, "--abort") == 0
    configure(rules=["dport(7001) -> reject", "otherwise -> direct"], **SCOPE)
    assert reload(lab, "--abort") == 2
    assert is_reset(gone.client) and is_reset(gone.server)
    assert is_refused(clients[7001], lab, 7001)
    exchange(kept.client, kept.server)
    ask(clients[7000], servers[7000], lab, port=7000)
    limpid.counters_with(udp_cut_through_open=1, cut_through_open=1)
    ended = [(flow["proto"], flow["end"], flow["cut_through"]) for flow in limpid.flows(2) if flow["end"] == "rejected" and flow.get("cut_through") == "yes"]
    assert sorted(ended) == [("tcp", "rejected", "yes"), ("udp", "rejected", "yes")]
