"""Rules decide about datagrams: by addresses, by the name in a QUIC handshake, by the name that a question to a resolver asks for."""

import subprocess

import pytest

from http3_peers import BLOB, fetch
from peers import wait_until
from policy_peers import at, recorded_datagrams
from test_udp_programs import start_dnsmasq
from udp_exchange import ask, listens_on_udp, nothing_comes, question

PORT = 7000
# The name is www.example.com, in two Initials.
HANDSHAKE = recorded_datagrams("recorded_chromium_quic")


def connected(lab, port=PORT):
    """A client's socket that hears ICMP errors."""
    client = lab.client.datagrams()
    client.connect((lab.server.address, port))
    return client


def test_rejected_dropped_and_relayed(lab, start, configure):
    limpid = start("-c", configure(udp="7000-7002", rules=["dport(7000) -> reject", "dport(7001) -> drop", "otherwise -> direct"]))
    servers = {port: lab.server.datagrams(port) for port in (7000, 7001, 7002)}
    client = connected(lab)
    client.send(b"question")
    with pytest.raises(ConnectionRefusedError):
        client.recv(1)
    dropped = connected(lab, 7001)
    dropped.send(b"question")
    nothing_comes(dropped)
    ask(lab.client.datagrams(), servers[7002], lab, port=7002)
    for port in (7000, 7001):
        nothing_comes(servers[port], 0.1)
    assert sorted((flow["proto"], flow["end"], flow["rule"]) for flow in limpid.flows(2)) == [("udp", "dropped", "2"), ("udp", "rejected", "1")]
    counters = limpid.counters()
    assert (counters["rejected"], counters["dropped"], counters["udp_sessions_total"]) == (1, 1, 1)


def test_one_line_for_all_that_a_flow_sends_in_vain(lab, start, configure):
    limpid = start("-c", configure(udp=PORT, rules=["otherwise -> drop"]))
    client = lab.client.datagrams()
    for _ in range(20):
        question(client, lab)
    question(lab.client.datagrams(), lab)
    limpid.counters_with(dropped=2, rule_1=2)
    assert len(limpid.flows(2)) == 2


def test_one_port_of_the_client_to_a_target_and_to_others(lab, start, configure):
    """With endpoint-independent mapping everything that is relayed directly shares a session; what a rule sends elsewhere has its own, and is answered in the
    name of whom the client had asked."""
    start("-c", configure(udp="7000-7001", rules=[f"dport(7000) -> target({at(lab.server.address, 7100)})", "otherwise -> direct"]))
    elsewhere, direct = lab.server.datagrams(7100), lab.server.datagrams(7001)
    client = lab.client.datagrams()
    for _ in range(3):
        question(client, lab, 7000, b"moved")
        received, peer = elsewhere.recvfrom(100)
        assert received == b"moved"
        elsewhere.sendto(b"here", peer)
        got, sender = client.recvfrom(100)
        assert (got, sender[:2]) == (b"here", (lab.server.address, 7000))
        ask(client, direct, lab, port=7001)


def test_held_datagrams_arrive_in_order(lab, start, configure):
    """A handshake in two datagrams: the first one waits for the second, then both go."""
    assert len(HANDSHAKE) >= 2
    limpid = start("-c", configure(udp=443, rules=["domain(www.example.com) -> direct", "otherwise -> drop"]), "--sniff-timeout", "20s")
    server = lab.server.datagrams(443)
    client = lab.client.datagrams()
    question(client, lab, 443, HANDSHAKE[0])
    nothing_comes(server)
    question(client, lab, 443, HANDSHAKE[1])
    assert [server.recv(65536) for _ in range(2)] == HANDSHAKE[:2]
    question(client, lab, 443, b"what follows needs no look")
    assert server.recv(65536) == b"what follows needs no look"
    assert limpid.counters()["sniffed"] == 1


def test_a_handshake_that_does_not_go_on_is_unknown(lab, start, configure):
    """It is held for the time that was set, and then delivered: nothing is lost."""
    limpid = start("-c", configure(udp=443, rules=["domain(www.example.com) -> drop", "app(unknown) -> direct", "otherwise -> drop"]), "--sniff-timeout", "400ms")
    server = lab.server.datagrams(443)
    client = lab.client.datagrams()
    question(client, lab, 443, HANDSHAKE[0])
    assert server.recv(65536) == HANDSHAKE[0]
    counters = limpid.counters()
    assert (counters["sniffed"], counters["sniffed_unknown"], counters["rule_2"]) == (1, 1, 1)


def test_a_handshake_is_refused_as_a_whole(lab, start, configure):
    limpid = start("-c", configure(udp=443, rules=["domain(suffix: example.com) -> reject", "otherwise -> direct"]))
    server = lab.server.datagrams(443)
    client = connected(lab, 443)
    with pytest.raises(ConnectionRefusedError):
        for datagram in HANDSHAKE[:2]:
            client.send(datagram)
        client.recv(1)
    nothing_comes(server)
    flow = limpid.flow()
    assert (flow["name"], flow["app"], flow["end"]) == ("www.example.com", "quic", "rejected")


# To an address this client says "localhost", whatever --sni says.
@pytest.mark.parametrize("name, served", [("localhost", False), ("www.example.net", True)])
def test_http3_by_name(lab, start, configure, http3, tmp_path, name, served):  # noqa: F811 (the fixture)
    limpid = start("-c", configure(udp=443, rules=[f"app(quic) && domain({name}) -> reject", "otherwise -> direct"]))
    if served:
        fetched, _ = fetch(lab, tmp_path)
        assert fetched == BLOB
        assert limpid.counters()["rule_2"] == 1
        return
    done = lab.client.run("gtlsclient", "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", "--timeout=2s",
                          "--handshake-timeout=2s", lab.server.address, "443", "https://www.example.org/blob",
                          check=False, timeout=30)
    assert "Received packet" not in http3(), done.stdout
    flow = limpid.flows(1)[0]
    assert (flow["name"], flow["app"], flow["rule"], flow["end"]) == ("localhost", "quic", "1", "rejected")


def test_each_question_to_a_resolver_is_decided_by_itself(lab, start, configure, need, tmp_path):
    """From one port of one client: a name that is refused, one that another resolver answers, and others."""
    need("dig", "bind9-dnsutils")
    need("dnsmasq", "dnsmasq-base")
    answers = {"ipv4": ("203.0.113.1", "203.0.113.2"), "ipv6": ("2001:db8:f::1", "2001:db8:f::2")}[lab.family]
    limpid = start("-c", configure(udp=53, rules=["domain(suffix: ads.example.org) -> reject",
                                                  f"domain(suffix: inside.example.org) -> target({at(lab.wan, 5353)})", "otherwise -> direct"]))
    start_dnsmasq(lab.server, tmp_path, answers[0])
    folder = tmp_path / "inside"
    folder.mkdir()
    lab.router.start(["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root", "--port=5353",
                      f"--pid-file={folder}/pid", f"--address=/example.org/{answers[1]}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: listens_on_udp(lab.router, 5353), "the resolver inside listens")
    port = lab.client_port()

    def resolve(name):
        source = "0.0.0.0" if lab.family == "ipv4" else "::"
        return lab.client.run("dig", f"@{lab.server.address}", "-b", f"{source}#{port}", "+notcp", "+short", "+tries=1", "+timeout=2", name,
                              "A" if lab.family == "ipv4" else "AAAA", check=False)

    assert resolve("www.example.org").stdout.strip() == answers[0]
    refused = resolve("tracker.ads.example.org")
    assert refused.returncode != 0 and answers[0] not in refused.stdout
    assert resolve("host.inside.example.org").stdout.strip() == answers[1]
    assert resolve("other.example.org").stdout.strip() == answers[0]
    rejected = limpid.flows(1)[0]
    assert (rejected["name"], rejected["app"], rejected["rule"], rejected["end"]) == ("tracker.ads.example.org", "dns", "1", "rejected")


def test_quic_refused_beside_tcp(lab, start, configure):
    """What makes browsers fall back to TCP."""
    start("-c", configure(tcp=443, udp=443, rules=["proto(udp) -> reject", "otherwise -> direct"]))
    client = connected(lab, 443)
    client.send(b"x" * 1200)
    with pytest.raises(ConnectionRefusedError):
        client.recv(1)
    lab.dial_relayed(lab.server.listen(443))


def dns_question(number, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2, "big") + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"


def test_questions_stay_where_they_are_decided(lab, start, configure):
    """With cut-through: a client that asks one resolver again and again does not get past the rules by that."""
    limpid = start("-c", configure(udp=53, rules=["domain(blocked.example) -> drop", "otherwise -> direct"]), "--cut-through", "auto")
    server, client = lab.server.datagrams(53), lab.client.datagrams()
    for number in range(30):
        ask(client, server, lab, dns_question(number, f"host{number}.example"), 53)
    question(client, lab, 53, dns_question(99, "blocked.example"))
    ask(client, server, lab, dns_question(100, "other.example"), 53)
    counters = limpid.counters()
    assert (counters["rule_1"], counters["rule_2"], counters["sniffed"]) == (1, 31, 32)
