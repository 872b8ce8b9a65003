"""by-name: where the name leads that a flow asks for, looked up by Limpid itself, is dialled; or an upstream is asked for the name."""

import os
import signal

import pytest

import limpid_process
from hosts_file import Names
from peers import exchange, read_exactly, wait_until
from policy_peers import recorded_datagrams
from test_udp_programs import start_dnsmasq
from udp_exchange import nothing_comes, question
from upstream_peers import NEEDS, Peer, at, danted, tinyproxy

ELSEWHERE = {"ipv4": "203.0.113.80", "ipv6": "2001:db8:f::80"}  # the server's too
CLOSED = {"ipv4": "203.0.113.81", "ipv6": "2001:db8:f::81"}  # so is this, but a rule refuses it
LEFT_ALONE = {"ipv4": "203.0.113.82", "ipv6": "2001:db8:f::82"}  # and this, which is not intercepted
LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}
HANDSHAKE = recorded_datagrams("recorded_chromium_quic")  # www.example.com, in two Initials


@pytest.fixture
def elsewhere(lab):
    """More addresses of the server's."""
    family = ["nodad"] if lab.family == "ipv6" else []
    for each in (ELSEWHERE, CLOSED, LEFT_ALONE):
        address = f"{each[lab.family]}/{32 if lab.family == 'ipv4' else 128}"
        lab.server.run("ip", "address", "add", address, "dev", "lo", *family)
        lab.router.run("ip", "route", "add", address, "via", lab.server.address)
    return ELSEWHERE[lab.family]


@pytest.fixture
def resolving(lab, tmp_path):
    """What runs a program whose names are looked up at the server, whatever this host says of itself."""
    resolv, switch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolv.write_text(f"nameserver {lab.server.address}\n")
    switch.write_text("hosts: files dns\n")
    return ("unshare", "--mount", "sh", "-c",
            'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"', "sh", resolv, switch)


@pytest.fixture
def zone(lab, need, tmp_path):
    """A name server on the server's own port 53."""
    need("dnsmasq", "dnsmasq-base")
    means = {"www.example.com": ELSEWHERE, "closed.example": CLOSED, "away.example": LEFT_ALONE, "loop.example": LOOPBACK,
             "router.example": lab.router.addresses}
    flags = [f"--host-record={name},{addresses[lab.family]}" for name, addresses in means.items()]
    flags += [f"--host-record=here.example,{ELSEWHERE[lab.family]}", f"--host-record=here.example,{lab.server.address}", "--local=/example/"]
    return start_dnsmasq(lab.server, tmp_path, "192.0.2.99", "unused.example", flags)


def request(host):
    return b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"


def dial(lab, said):
    """A client that says this first, to the server's usual address."""
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(said)
    return client


def is_refused(client):
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()


def test_a_name_leads_elsewhere(lab, start, configure, elsewhere, resolving, zone):
    """After a reload that brings the option. Whom the client hears is whom it has dialled."""
    rules = [f"dst({CLOSED[lab.family]}) -> reject", "domain(plain.example) -> direct"]
    settings = {"tcp": 80, "udp": 443, "exclude": [LEFT_ALONE[lab.family]], "sniff-timeout": "2s"}
    limpid = start("-c", configure(rules=[*rules, "otherwise -> direct"], **settings), wrapper=resolving)
    listener = lab.server.listen(80)

    def served(said):
        client = dial(lab, said)
        server, _ = listener.accept()
        server.settimeout(10)
        assert read_exactly(server, len(said)) == said, "nothing is taken away"
        address = server.getsockname()[0]
        exchange(client, server)
        client.close()
        server.close()
        return address

    here = lab.server.address
    assert served(request("www.example.com")) == here, "no rule says otherwise yet"
    configure(rules=[*rules, "otherwise -> direct(by-name: yes)"], **settings)
    lab.router.run(limpid_process.BINARY, "reload")
    assert served(request("www.example.com")) == elsewhere
    assert served(request("WWW.example.com.:80")) == elsewhere
    assert served(request("here.example")) == here, "the client has dialled one of its addresses"
    assert served(request("plain.example")) == here
    unnamed = (request("localhost"), request(f"[{here}]" if lab.family == "ipv6" else here), b"SSH-2.0-OpenSSH_9.2\r\n")
    for said in unnamed:
        assert served(said) == here, "nobody is asked for what is no name"
    refused = {"none.example": "name_unresolved", "loop.example": "refused_forbidden_target", "router.example": "refused_forbidden_target",
               "away.example": "refused_forbidden_target", "closed.example": "rejected"}
    for name in refused:
        is_refused(dial(lab, request(name)))
    flows = limpid.flows(5 + len(unnamed) + len(refused))
    ends = {flow["name"]: flow["end"] for flow in flows if flow["end"] != "closed"}
    assert ends == refused
    assert {flow["rule"] for flow in flows if flow["name"] == "closed.example"} == {"1"}, "the rule that forbids the address"
    moved = [flow for flow in flows if flow["target"] == at(elsewhere, 80)]
    assert len(moved) == 2 and all(flow["orig_dst"] == at(here, 80) and flow["source"] == "address" for flow in moved)
    counters = limpid.counters()
    assert (counters["names_asked"], counters["names_cached"], counters["name_unresolved"]) == (2 + len(refused), 1, 1)

    lab.router.run(limpid_process.BINARY, "reload")  # what was remembered is forgotten
    # A handshake in two datagrams: they wait for the name, and answers come in the name of whom was asked.
    server, stranger, client = lab.server.datagrams(443, elsewhere), lab.server.datagrams(443, here), lab.client.datagrams()
    for datagram in HANDSHAKE[:2]:
        question(client, lab, 443, datagram)
    assert [server.recv(65536) for _ in range(2)] == HANDSHAKE[:2]
    question(client, lab, 443, b"more")
    received, peer = server.recvfrom(65536)
    assert received == b"more" and peer[0] == lab.client.address
    server.sendto(b"answer", peer)
    got, sender = client.recvfrom(65536)
    assert (got, sender[:2]) == (b"answer", (here, 443))
    nothing_comes(stranger, 0.1)
    assert limpid.counters()["names_asked"] == counters["names_asked"] + 1
    zone.kill()


def test_a_name_does_not_lead_to_an_address_that_has_become_ours(lab, start, configure, elsewhere, resolving, zone):
    """Not even while what was found before is remembered."""
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> direct(by-name: yes)"]), "--connect-timeout", "1s", wrapper=resolving)
    listener = lab.server.listen(80)
    client = dial(lab, request("www.example.com"))
    server, _ = listener.accept()
    assert server.getsockname()[0] == elsewhere
    client.close()
    server.close()
    lab.router.run("ip", "address", "add", f"{elsewhere}/{32 if lab.family == 'ipv4' else 128}", "dev", "lo", *(["nodad"] if lab.family == "ipv6" else []))

    def is_forbidden():
        is_refused(dial(lab, request("www.example.com")))
        return limpid.counters()["refused_forbidden_target"] == 1
    wait_until(is_forbidden, "it hears of its address")
    zone.kill()


def test_nobody_who_answers_holds_up_only_those_who_ask(lab, start, configure, elsewhere, resolving):
    """A name server that is silent, then no process that would ask it."""
    silent = lab.server.datagrams(53)
    limpid = start("-c", configure(tcp=80, udp=443, rules=["domain(plain.example) -> direct", "otherwise -> direct(by-name: yes)"]),
                   "--connect-timeout", "1s", wrapper=resolving)
    listener = lab.server.listen(80)
    waiting = dial(lab, request("www.example.com"))
    asked, _ = silent.recvfrom(512)
    assert b"\x03www\x07example\x03com\x00" in asked, "as it stands in the first bytes, without a search domain"
    found = lab.router.run(limpid_process.BINARY, "flows", "--json").stdout
    assert '"resolving"' in found
    plain = dial(lab, request("plain.example"))
    listener.accept()[0].close()
    plain.close()
    is_refused(waiting)
    flow, = [flow for flow in limpid.flows(2) if flow["name"] == "www.example.com"]
    assert (flow["end"], flow["target"]) == ("name_unresolved", "-")

    client = lab.client.datagrams()
    server = lab.server.datagrams(443)
    for datagram in HANDSHAKE[:2]:
        question(client, lab, 443, datagram)
    process = int(lab.router.run("pgrep", "-P", str(limpid.pid), "-x", "limpid-names").stdout)
    limpid.counters_with(names_asked=2)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: "not looked up any more" in limpid.messages, "it is said")
    is_refused(dial(lab, request("other.example")))
    refused = [flow for flow in limpid.flows(4) if flow["proto"] == "udp"]
    assert [flow["end"] for flow in refused] == ["name_unresolved"]
    nothing_comes(server, 0.1)


@pytest.mark.parametrize("program", ["microsocks", "tinyproxy"])
def test_an_upstream_is_asked_for_the_name(lab, start, configure, elsewhere, folder, tmp_path, need, program):
    """SOCKS5 and CONNECT: it looks the name up itself, and connects to where it leads."""
    need(*NEEDS[program])
    names = Names(tmp_path)
    names.say(f"{elsewhere} www.example.com")
    if program == "microsocks":
        listens = "::" if lab.family == "ipv6" else "0.0.0.0"
        peer = Peer(lab.server, folder, program, 1080, [*names.wrapper, "microsocks", "-i", listens, "-p", "1080"])
    else:
        peer = tinyproxy(lab.server, folder, 1080, wrapper=names.wrapper)
    scheme = "socks5" if program == "microsocks" else "http"
    limpid = start("-c", configure(tcp=80, upstream=[f"{scheme}://{at(lab.server.address, 1080)}"], **{"upstream-down": "direct"}, rules=[
        "domain(plain.example) -> via(upstream)", "otherwise -> via(upstream, by-name: yes)"]))
    listener = lab.server.listen(80)
    for name, address in (("www.example.com", elsewhere), ("plain.example", lab.server.address), (lab.server.address, lab.server.address)):
        client = dial(lab, request(f"[{name}]" if ":" in name else name))
        server, _ = listener.accept()
        server.settimeout(10)
        assert server.getsockname()[0] == address
        read_exactly(server, len(request(f"[{name}]" if ":" in name else name)))
        exchange(client, server)
        client.close()
        server.close()
    is_refused(dial(lab, request("none.example")))
    ends = {flow["name"]: flow["end"] for flow in limpid.flows(4)}
    assert ends["none.example"] in ("upstream_refused", "upstream_failed", "connect_unreachable")
    assert limpid.counters()["names_asked"] == 0
    peer.kill()
    is_refused(dial(lab, request("www.example.com")))
    client = dial(lab, request("plain.example"))
    assert listener.accept()[0].getsockname()[0] == lab.server.address, "who does not go by name goes without"
    client.close()


def test_datagrams_go_through_an_upstream_by_name(lab, start, configure, elsewhere, folder, tmp_path, need):
    """SOCKS5: it looks the name up itself; answers come in the name of whom the client has dialled. When it is down, nothing goes past it."""
    need(*NEEDS["danted"])
    names = Names(tmp_path)
    names.say(f"{elsewhere} www.example.com")
    peer = danted(lab.server, folder, 1080, wrapper=names.wrapper)
    limpid = start("-c", configure(udp="443,7000", upstream=[f"socks5://{at(lab.server.address, 1080)}"], **{"upstream-down": "direct", "upstream-check": "0"},
                                   rules=["otherwise -> via(upstream, by-name: yes)"]))
    here = lab.server.address
    server, stranger, client = lab.server.datagrams(443, elsewhere), lab.server.datagrams(443, here), lab.client.datagrams()
    for datagram in HANDSHAKE[:2]:
        question(client, lab, 443, datagram)
    seen = [server.recvfrom(65536) for _ in range(2)]
    assert [received for received, _ in seen] == HANDSHAKE[:2]
    for number in range(10):
        server.sendto(b"answer %d" % number, seen[0][1])
        got, sender = client.recvfrom(65536)
        assert (got, sender[:2]) == (b"answer %d" % number, (here, 443))
    question(client, lab, 443, b"more")
    assert server.recvfrom(65536) == (b"more", seen[0][1])
    nothing_comes(stranger, 0.1)
    nameless, plain = lab.client.datagrams(), lab.server.datagrams(7000)
    question(nameless, lab, 7000, b"no name")
    assert plain.recv(100) == b"no name"
    assert limpid.counters()["names_asked"] == 0
    peer.kill()
    limpid.counters_with(udp_sessions_ended=2)
    other = lab.client.datagrams()
    for datagram in HANDSHAKE[:2]:
        question(other, lab, 443, datagram)
    nothing_comes(stranger, 0.2)
    assert {flow["end"] for flow in limpid.flows(3)} == {"target_reset", "upstream_down"}
