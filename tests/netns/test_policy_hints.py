"""dns-hint: names out of DNS answers that are relayed stand in where flows say none; marked as such, for the client that was told, and never a reason to dial elsewhere."""

import json
import struct

import pytest

import limpid_process
from peers import exchange, wait_until
from test_udp_programs import start_dnsmasq
from udp_exchange import ask, nothing_comes, question

PORT = 7000
SAYS_NOTHING = b"no protocol that has a name\r\n"
RULES = ["dport(53) -> direct", "domain(suffix: hinted.example) -> reject", "otherwise -> direct"]
SETTINGS = {"tcp": f"53,{PORT}", "udp": f"53,{PORT}", "dns-hint": True, "sniff-timeout": "100ms"}
ANOTHER_CLIENT = {"ipv4": "192.0.2.3", "ipv6": "2001:db8:1::3"}
ANOTHER_SERVER = {"ipv4": "198.51.100.3", "ipv6": "2001:db8:2::3"}
TYPES = {"ipv4": 1, "ipv6": 28}


@pytest.fixture
def elsewhere(lab):
    """One more address of the client's, and one of the server's, which they use where they are told to."""
    for host, addresses in ((lab.client, ANOTHER_CLIENT), (lab.server, ANOTHER_SERVER)):
        length, flags = (64, ["nodad", "preferred_lft", "0"]) if lab.family == "ipv6" else (24, [])
        host.run("ip", "address", "add", f"{addresses[lab.family]}/{length}", "dev", "eth0", *flags)
    return ANOTHER_SERVER[lab.family]


@pytest.fixture
def dig(lab, need):
    """dig(name, flags…) asks the server; the addresses in its answer."""
    need("dig", "bind9-dnsutils")
    kind = "A" if lab.family == "ipv4" else "AAAA"

    def run(name, *flags):
        return lab.client.run("dig", f"@{lab.server.address}", "+notcp", "+short", "+tries=1", "+timeout=5", *flags, name, kind).stdout.split()
    return run


@pytest.fixture
def zone(lab, need, tmp_path):
    """A name server with a name for the server's own address, and an alias of it."""
    need("dnsmasq", "dnsmasq-base")
    flags = [f"--host-record=www.hinted.example,{lab.server.address}", "--cname=alias.hinted.example,www.hinted.example",
             f"--host-record=shown.example,{lab.server.address}"]
    return start_dnsmasq(lab.server, tmp_path, "203.0.113.99", "unused.example", flags)


def connect_from(lab, source, address=None, port=PORT):
    client = lab.client.socket()
    client.bind((source, 0))
    client.connect((address or lab.server.address, port))
    return client


def is_refused(client):
    client.sendall(SAYS_NOTHING)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def is_served(client, listener, said=SAYS_NOTHING):
    client.sendall(said)
    server, _ = listener.accept()
    server.settimeout(10)
    assert server.recv(len(said)) == said
    exchange(client, server)
    client.close()
    server.close()


def test_what_a_client_was_told_is_its_hint(lab, start, configure, elsewhere, dig, zone):
    limpid = start("-c", configure(rules=RULES, **SETTINGS))
    listener, datagrams = lab.server.listen(PORT), lab.server.datagrams(PORT)
    own, other = lab.client.address, ANOTHER_CLIENT[lab.family]
    is_served(connect_from(lab, own), listener)
    assert dig("www.hinted.example") == [lab.server.address]
    limpid.counters_with(names_learnt=1)
    is_refused(connect_from(lab, own))
    is_served(connect_from(lab, other), listener)  # another client has heard nothing
    is_served(connect_from(lab, own, elsewhere), listener)  # of another address nothing was said
    is_served(connect_from(lab, own), listener, b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n")  # its own name wins
    client = lab.client.datagrams()
    client.connect((lab.server.address, PORT))
    client.send(b"question")
    with pytest.raises(ConnectionRefusedError):
        client.recv(1)
    nothing_comes(datagrams, 0.1)
    status = json.loads(lab.router.run(limpid_process.BINARY, "status", "--json").stdout)
    assert status["dns_hints"] == 1
    assert "1 address with a name out of DNS answers" in lab.router.run(limpid_process.BINARY, "status").stdout
    relayed = [flow for flow in limpid.flows(6) if flow["orig_dst"].endswith(str(PORT))]
    ends = sorted((flow["proto"], flow["end"], flow.get("name", "-"), flow.get("name_source", "-")) for flow in relayed)
    assert ends == [("tcp", "closed", "-", "-")] * 3 + [("tcp", "closed", "plain.example", "-"),
                                                      ("tcp", "rejected", "www.hinted.example", "dns-hint"),
                                                      ("udp", "rejected", "www.hinted.example", "dns-hint")]
    assert limpid.counters()["names_hinted"] == 2


def test_over_tcp_through_aliases_and_by_the_name_asked_for_last(lab, start, configure, dig, zone):
    limpid = start("-c", configure(rules=[RULES[0], "domain(alias.hinted.example) -> drop", *RULES[1:]], **SETTINGS))
    listener = lab.server.listen(PORT)
    assert lab.server.address in dig("alias.hinted.example", "+tcp")
    limpid.counters_with(names_learnt=1)
    dropped = connect_from(lab, lab.client.address)
    dropped.sendall(SAYS_NOTHING)
    limpid.counters_with(names_hinted=1)
    assert dig("shown.example", "+tcp") == [lab.server.address]
    limpid.counters_with(names_learnt=2)
    client = lab.client.connect(lab.server.address, PORT)
    server, _ = listener.accept()  # without a word of the client's
    shown = lab.router.run(limpid_process.BINARY, "flows", "--host", "shown.example", "--json").stdout
    flow, = json.loads(shown)["flows"]
    assert (flow["name"], flow["name_source"], flow["target"].endswith(f":{PORT}")) == ("shown.example", "dns-hint", True)
    assert "shown.example (dns-hint)" in lab.router.run(limpid_process.BINARY, "flows", "--host", "shown.example").stdout
    client.close()
    server.close()


def labels(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def query(number, name, kind):
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels(name) + struct.pack("!2H", kind, 1)


def reply(asked, address, number=None, name=None):
    """An answer to that query; or to one with another number or name."""
    head = struct.pack("!6H", struct.unpack("!H", asked[:2])[0] if number is None else number, 0x8180, 1, 1, 0, 0)
    packed = bytes(map(int, address.split("."))) if "." in address else _packed_ipv6(address)
    return head + (asked[12:] if name is None else labels(name) + asked[-4:]) + b"\xc0\x0c" + asked[-4:] + struct.pack("!IH", 300, len(packed)) + packed


def _packed_ipv6(address):
    front, _, back = address.partition("::")
    words = [int(word, 16) for word in front.split(":")], [int(word, 16) for word in back.split(":")]
    return struct.pack("!8H", *words[0], *[0] * (8 - len(words[0]) - len(words[1])), *words[1])


def test_what_was_not_asked_for_is_no_hint_and_no_hint_is_dialled(lab, start, configure, elsewhere):
    """Answers with another number or name, or from another port or host; and who goes by name does not go by a hint."""
    limpid = start("-c", configure(rules=[RULES[0], "domain(suffix: hinted.example) -> direct(by-name: yes)", "otherwise -> direct"], **SETTINGS))
    resolver, stranger, other = lab.server.datagrams(53, lab.server.address), lab.server.datagrams(54), lab.server.datagrams(53, elsewhere)
    listener = lab.server.listen(PORT)
    client = lab.client.datagrams()
    asked = query(77, "www.hinted.example", TYPES[lab.family])
    question(client, lab, 53, asked)
    received, peer = resolver.recvfrom(512)
    assert received == asked
    wrong = [(resolver, reply(asked, lab.server.address, number=78)), (resolver, reply(asked, lab.server.address, name="xxx.hinted.example")),
             (stranger, reply(asked, lab.server.address)), (other, reply(asked, lab.server.address))]
    for sender, answer in wrong:
        sender.sendto(answer, peer)
        assert client.recv(512) == answer, "it is passed on as ever"
    assert limpid.counters()["names_learnt"] == 0
    is_served(connect_from(lab, lab.client.address), listener)
    resolver.sendto(reply(asked, lab.server.address), peer)
    client.recv(512)
    limpid.counters_with(names_learnt=1)
    is_served(connect_from(lab, lab.client.address), listener)
    flows = [flow for flow in limpid.flows(2) if flow["proto"] == "tcp"]
    assert sorted((flow["name"], flow.get("name_source"), flow["rule"], flow["target"]) for flow in flows) == [
        ("-", None, "3", flows[0]["orig_dst"]), ("www.hinted.example", "dns-hint", "2", flows[0]["orig_dst"])]
    assert limpid.counters()["names_asked"] == 0


def test_dns_is_not_cut_through(lab, start, configure):
    """Its answers are to be seen."""
    limpid = start("-c", configure(rules=RULES, **SETTINGS), "--cut-through", "always")
    resolver, client = lab.server.datagrams(53), lab.client.datagrams()
    for number in range(10):
        ask(client, resolver, lab, query(number, "www.hinted.example", 1), port=53)
    listener = lab.server.listen(53)
    connection = lab.client.connect(lab.server.address, 53)
    server, _ = listener.accept()
    exchange(connection, server)
    counters = limpid.counters_with(stayed_dns_answers=2)
    assert (counters["cut_through"], counters["udp_cut_through"]) == (0, 0)
    connection.close()
    server.close()


def test_it_is_said_where_nothing_can_be_learnt(lab, launch, configure):
    checked = lab.router.run(limpid_process.BINARY, "check", configure(rules=RULES, tcp="80", **{"dns-hint": True}))
    assert "dns-hint" in checked.stderr and "no DNS passes through" in checked.stderr
    refused = launch("--tcp", "80", "--dns-hint")
    assert refused.process.wait(10) == 2
    wait_until(lambda: "there are no rules" in refused.messages, "it says why")
