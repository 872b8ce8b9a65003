"""The words of `limpid explain` and `limpid trace` that other tests do not hear: what programs of this host send, later packets, a drain,
a guarded listener, and losses that are seldom."""

import signal
import socket

import pytest

import limpid_process
from doctor_report import Proxy
from explain_process import endpoint, forwarded, local
from lab import IP_TRANSPARENT, IPV6_TRANSPARENT
from local_programs import ALICE
from peers import exchange, wait_until

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backends itself; runs once")

BACKENDS = pytest.mark.parametrize("backend", ["nftables", "iptables-nft"])
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "udp"])
V4 = pytest.mark.parametrize("family", ["ipv4"], indirect=True)
PORT = 3129


@pytest.fixture
def backend(request, need):
    if request.param != "nftables":
        need(request.param, "iptables")
    return request.param


def words(answer):
    return [step["words"] for step in answer["steps"] if step["words"]]


def hears(followed, text, what):
    """Waits for a packet one of whose rules was explained so."""
    followed.wait_for(lambda packet: any(text in said for said in words(packet)), what)


# Programs of this host

@BACKENDS
@TRANSPORTS
def test_each_rule_that_a_programs_packet_meets(lab, start, backend, transport):
    start("--tcp", "80", "--udp", "80", "--local", "--uid", ALICE, "--backend", backend)
    answer = local(lab, transport, arguments=("--uid", ALICE))
    assert answer["verdict"] == "intercepted"
    said = words(answer)
    expected = [f"the port is in scope ({transport.upper()} 80)", "the program is in scope (",
                "marked, and so routed again: to this host, through lo", "a program of this host sent it, and it is in scope"]
    for each in expected + (["remembered as a flow that is intercepted"] if transport == "tcp" else []):
        assert any(each in text for text in said), (each, said)
    assert str(ALICE) in next(text for text in said if "the program is in scope" in text)


@BACKENDS
def test_every_program_and_the_reasons_to_leave_one_alone(lab, start, backend):
    start("--tcp", "80", "--local", "--exclude", lab.nowhere, "--backend", backend)
    assert "every program is in scope" in words(local(lab))
    assert "the port is not in scope (TCP 80)" in local(lab, port=81)["reason"]
    assert "UDP is not in scope" in local(lab, "udp")["reason"]
    assert any("an address of this host, or broadcast or anycast" in text for text in words(local(lab, address=lab.wan)))
    lab.router.run("ip", {"ipv4": "-4", "ipv6": "-6"}[lab.family], "route", "add", lab.nowhere, "dev", "wan")
    assert "the destination is excluded (--exclude" in local(lab, address=lab.nowhere)["reason"]
    lab.router.nft("table inet other { chain c { type filter hook output priority -310; meta mark set 0x51; }; }\n")
    assert "it carries a mark: the proxy's own traffic, or somebody else has decided about it" in local(lab)["reason"]


@V4
@BACKENDS
def test_forwarded_packets_where_only_programs_are_meant(lab, start, backend):
    start("--tcp", "80", "--local-only", "--to-net", "198.51.100.8/29", "--backend", backend)
    assert "forwarded traffic is not in scope (--local-only)" in forwarded(lab)["reason"]
    assert "the destination is none of --to-net" in local(lab)["reason"]


@BACKENDS
def test_later_packets_of_a_program(lab, start, trace, backend):
    start("--tcp", "80", "--local", "--backend", backend)
    followed = trace("tcp", "any", endpoint(lab.server.address, 80))
    listener = lab.server.listen(80)
    client = lab.router.connect(lab.server.address, 80)
    exchange(client, listener.accept()[0])
    hears(followed, "it belongs to a flow of a program here that is intercepted already", "a later packet")


@BACKENDS
def test_connections_that_are_older(lab, start, trace, backend):
    listener = lab.server.listen(80)
    pairs = [(host.connect(lab.server.address, 80), listener.accept()[0]) for host in (lab.client, lab.router)]
    start("--tcp", "80", "--local", "--backend", backend)
    followed = trace("tcp", "any", endpoint(lab.server.address, 80))
    for pair, end in zip(pairs, ("forwarded", "left alone")):
        exchange(*pair)
        followed.wait_for(lambda packet: packet["verdict"] == "bypassed" and
                          f"not a first packet, and belongs to no flow that is intercepted: {end}" in packet["reason"], f"it is {end}")


@BACKENDS
def test_answers_of_a_server_here(lab, start, trace, backend):
    start("--udp", "80", "--local", "--backend", backend)
    followed = trace("udp", "any", endpoint(lab.client.address, 80))
    server = lab.router.datagrams(9000)
    client = lab.client.datagrams(80)
    client.sendto(b"?", (lab.router.address, 9000))
    question, peer = server.recvfrom(10)
    server.sendto(question, peer)
    assert client.recv(10) == b"?"
    followed.wait_for(lambda packet: "it answers a client of a server on this host" in packet["reason"], "the answer")


@BACKENDS
def test_a_socket_that_is_bound_to_an_interface(lab, start, trace, backend):
    start("--tcp", "80", "--local", "--fail", "closed", "--backend", backend)
    followed = trace("tcp", "any", endpoint(lab.server.address, 80), "--drop-only")
    client = lab.router.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wan")
    client.setblocking(False)
    client.connect_ex((lab.server.address, 80))
    followed.wait_for(lambda packet: packet["verdict"] == "dropped" and
                      "its socket is bound to an interface: fail-closed drops it" in packet["reason"], "the drop")


def test_more_connections_than_can_be_remembered(lab, start):
    """The limit itself takes a while to reach: what is met then is what is left when the rule that remembers does not match."""
    start("--tcp", "80", "--local", "--repair", "off")
    chain = lab.router.run("nft", "-a", "list", "chain", "inet", "limpid", "local_first").stdout
    handle = next(line.split()[-1] for line in chain.splitlines() if "@flows_" in line and lab.family in line)
    lab.router.run("nft", "delete", "rule", "inet", "limpid", "local_first", "handle", handle)
    assert "more connections than can be remembered" in local(lab)["reason"]


# Drain, guard, both ports

@BACKENDS
@TRANSPORTS
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_while_it_drains(lab, start, backend, transport, fail):
    limpid = start("--tcp", "80", "--udp", "80", "--fail", fail, "--backend", backend, "--drain-timeout", "60")
    lab.dial_relayed(lab.server.listen(80))
    limpid.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "drain" in limpid.messages, "it drains")
    verdict, reason = {"open": ("bypassed", "the instance is draining: nothing new is intercepted"),
                       "closed": ("rejected", "the instance is draining: fail-closed rejects what is new")}[fail]
    answer = wait_until(lambda: "draining" in (said := forwarded(lab, transport))["reason"] and said, "the rules say so")
    assert answer["verdict"] == verdict and reason in answer["reason"]


@BACKENDS
def test_who_dials_the_proxy_itself(lab, backend):
    proxy = Proxy(lab.router, PORT, how="anywhere")
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--for", "trafficserver", "--tcp", "80", "--to-port", PORT, "--fail", "closed",
                   "--backend", backend)
    answer = forwarded(lab, port=PORT, address=lab.wan)
    assert answer["verdict"] == "rejected" and "dialled to the proxy's own port, which would dial itself: reset" in answer["reason"]
    relay = forwarded(lab)["relay"]
    assert not relay["known"] and "what it does with it cannot be seen from outside" in relay["words"]
    proxy.close()


@BACKENDS
def test_both_ports_are_kept(lab, start, trace, backend):
    start("--tcp", "80", "--source", "address+port", "--backend", backend)
    relay = forwarded(lab)["relay"]
    assert relay["source"] == "address+port" and f" as {endpoint(lab.client.address, '')}" in relay["words"]
    followed = trace("tcp", "any", "any:80")
    lab.dial(lab.server.listen(80))
    hears(followed, "both legs of a flow have one 5-tuple: kept out of conntrack", "a leg")


def test_a_listener_on_any_address_is_no_flow(lab, start):
    start("--udp", "80")
    theirs = lab.router.datagrams()
    theirs.setsockopt(*{"ipv4": (socket.SOL_IP, IP_TRANSPARENT, 1), "ipv6": (socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)}[lab.family])
    said = words(forwarded(lab, "udp", port=theirs.getsockname()[1]))
    assert "the socket is a listener on any address, not a flow" in said
    assert any("an answer to the proxy's own datagrams" in text for text in said), "so it looked"


# What others do

def test_an_instance_whose_chain_is_gone(lab):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", PORT)
    lab.router.run("nft", "delete", "chain", "inet", "limpid", "prerouting")
    assert "no rule of Limpid's was met" in forwarded(lab)["reason"]


def test_delivered_by_routes_of_others(lab):
    flag = {"ipv4": "-4", "ipv6": "-6"}[lab.family]
    lab.router.nft("table inet other { chain c { type filter hook prerouting priority mangle; meta mark set 0x51; }; }\n")
    lab.router.run("ip", flag, "rule", "add", "fwmark", "0x51", "lookup", "51")
    lab.router.run("ip", flag, "route", "add", "local", "default", "dev", "lo", "table", "51")
    answer = forwarded(lab, address=lab.nowhere)
    assert answer["verdict"] == "intercepted" and "by policy routing that is not Limpid's" in answer["reason"]


def test_given_to_a_program(lab, need):
    program = {"ipv4": "iptables-nft", "ipv6": "ip6tables-nft"}[lab.family]
    need(program, "iptables")
    if lab.router.run(program, "-A", "FORWARD", "-j", "NFQUEUE", check=False).returncode != 0:
        pytest.skip("this kernel has no NFQUEUE")
    answer = forwarded(lab)
    assert answer["verdict"] in ("unknown", "dropped") and "NFQUEUE" in answer["reason"]


@V4
@pytest.mark.parametrize("source, said", [("127.0.0.9", "127.0.0.0/8"), ("224.0.0.9", "no host has 224.0.0.9")])
def test_sources_that_nobody_has(lab, source, said):
    answer = forwarded(lab, source=source, arguments=("--in", "lan"))
    assert answer["verdict"] == "dropped" and "a martian" in answer["reason"] and said in answer["reason"]


def test_a_tc_filter(lab, need):
    need("tc", "iproute2")
    lab.router.run("tc", "qdisc", "add", "dev", "lan", "clsact")
    done = lab.router.run("tc", "filter", "add", "dev", "lan", "ingress", "matchall", "action", "drop", check=False)  # cls_matchall, act_gact
    if done.returncode != 0:
        pytest.skip(f"this kernel has no such filter: {done.stderr}")
    answer = forwarded(lab)
    assert answer["verdict"] == "dropped" and "a tc filter at the interface" in answer["reason"]


@pytest.mark.parametrize("family", ["ipv6"], indirect=True)
def test_an_interface_without_ipv6(lab):
    lab.router.sysctl("net/ipv6/conf/lan/disable_ipv6", 1)
    answer = forwarded(lab, arguments=("--in", "lan"))
    assert answer["verdict"] == "dropped" and "IPv6 is disabled on the interface" in answer["reason"]


@V4
def test_source_validation_by_the_mark(lab, start):
    start("--tcp", "80", "--repair", "off")
    lab.router.sysctl("net/ipv4/conf/lan/src_valid_mark", 1)
    assert forwarded(lab)["verdict"] == "intercepted"
    lab.router.run("ip", "rule", "del", "priority", "100")
    answer = forwarded(lab)
    assert answer["verdict"] == "dropped"
    assert f"src_valid_mark=1 it looks up the way back to {lab.client.address} by the packet's mark" in answer["reason"]
