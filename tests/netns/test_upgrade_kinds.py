"""What `limpid upgrade` hands over besides plain flows: flows and datagrams through upstreams, rules' decisions about datagrams, sessions that were cut through,
this host's own traffic, over every backend; and what it cannot hand over."""

import os
import signal

import pytest

import limpid_process
from control_client import Control, verb
from cut_sessions import hand_over, name_of
from kernel_state import installed, snapshot
from peers import exchange, read_exactly, read_to_end, wait_until
from process_rights import NET_ADMIN, NET_RAW, capabilities
from succession import Orphan, refused, succeed, upgrade
from traffic import ContinuousClient, failures
from udp_exchange import PORT, answer, ask, question
from upstream_peers import NEEDS, at, danted, haproxy, through


pytestmark = pytest.mark.usefixtures("orphans")


def test_a_flow_through_an_upstream_keeps_its_name_in_the_log(lab, start, upstream):
    peer = upstream("microsocks")
    limpid = start("--tcp", "80", "--upstream", peer.url)
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    assert upgrade(lab, limpid)["flows"] == 1
    exchange(connection.client, connection.server)
    connection.client.close()
    assert read_to_end(connection.server) == b""
    connection.server.close()
    flow = limpid.flow()
    assert (flow["upstream"], flow["bytes_up"], flow["bytes_down"], flow["end"]) == (peer.shown, "2000", "2000", "closed")


def test_tls_to_an_upstream_stays_and_is_served_to_its_end(lab, start, upstream, need, folder, tmp_path):
    need(*NEEDS["haproxy"])
    need("openssl", "openssl")
    upstream("tinyproxy", 3128)
    certificate, both = tmp_path / "proxy.pem", folder / "proxy.both"
    lab.server.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=proxy",
                   "-addext", f"subjectAltName=IP:{lab.server.address}", "-keyout", both, "-out", certificate)
    both.write_text(certificate.read_text() + both.read_text())
    both.chmod(0o644)
    door = haproxy(lab.server, folder, 3129,
                   f"frontend tls\n    mode tcp\n    bind {at(lab.server.address, 3129)} ssl crt {both}\n    default_backend plain\n"
                   f"backend plain\n    mode tcp\n    server one {at(lab.server.address, 3128)}\n")
    try:
        limpid = start("--tcp", "80", "--drain-timeout", "20", "--upstream", f"https://{at(lab.server.address, 3129)}?ca-file={certificate}")
        listener = lab.server.listen(80)
        connection = through(lab, listener)
        exchange(connection.client, connection.server)
        done = verb(lab, "upgrade")
        assert done.returncode == 0 and "1 flow cannot be moved" in done.stdout, done
        old = limpid.process
        assert old.poll() is None, "it has somebody to serve"
        exchange(connection.client, connection.server)
        another = through(lab, listener)
        exchange(another.client, another.server)
        assert Control().get("/v1/status")["flows"]["tcp"] == 1, "the new one has the new one"
        connection.client.close()
        assert read_to_end(connection.server) == b""
        connection.server.close()
        succeed(limpid, Control().get("/v1/status")["pid"])
        exchange(another.client, another.server)
        assert limpid.flows(1)[0]["bytes_up"] == "2000"
        another.client.close()
        assert read_to_end(another.server) == b""
        another.server.close()
        limpid.flows(2)
    finally:
        door.kill()


def test_an_association_with_an_upstream_goes_over(lab, start, folder, need):
    need(*NEEDS["danted"])
    peer = danted(lab.server, folder, 1080)
    url = f"socks5://{at(lab.server.address, 1080)}"
    try:
        limpid = start("--udp", str(PORT), "--upstream", url)
        client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
        seen = ask(client, server, lab)
        for number in range(2):
            assert upgrade(lab, limpid)["udp_sessions"] == 1
            assert ask(client, server, lab, b"again %d" % number) == seen, "the upstream has the same socket for it"
        assert limpid.stop() == 0
        flow = limpid.flow()
        assert (flow["proto"], flow["upstream"], flow["bytes_up"]) == ("udp", url, str(8 + 2 * 7))
    finally:
        peer.kill()


def test_what_rules_have_decided_of_datagrams_is_remembered(lab, start, configure):
    file = configure(udp=[f"{PORT}-{PORT + 1}"], rules=[f"dport({PORT + 1}) -> target({at(lab.server.address, PORT)})", "otherwise -> direct"])
    limpid = start("-c", file)
    client, server = lab.client.datagrams(), lab.server.datagrams(PORT)
    question(client, lab, PORT + 1)
    _, seen = answer(server)
    assert client.recvfrom(100)[1][1] == PORT + 1
    # Who has begun goes on where he went, even if the rules say otherwise by now.
    configure(udp=[f"{PORT}-{PORT + 1}"], rules=["otherwise -> direct"])
    assert upgrade(lab, limpid)["udp_sessions"] == 1
    question(client, lab, PORT + 1)
    assert answer(server)[1] == seen
    assert client.recvfrom(100)[1][1] == PORT + 1


@pytest.mark.parametrize("source", [("--source", "none"), ()], ids=name_of)
def test_sessions_that_were_cut_through_stay_so(lab, cut_udp, server, source):
    limpid = cut_udp(*source)
    client = lab.client.datagrams()
    up, down, seen = hand_over(lab, limpid, client, server)
    for number in range(2):
        upgrade(lab, limpid)
        before = limpid.counters()["udp_datagrams_up"]
        for _ in range(5):
            assert ask(client, server, lab, b"x%d" % number) == seen
            up, down = up + 2, down + 5
        assert limpid.counters()["udp_datagrams_up"] == before, "it is forwarded past both of them"
    assert Control().get("/v1/status")["flows"]["udp"] == 1
    assert limpid.stop() == 0
    flow = limpid.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["cut_through"]) == (up, down, "yes")


@pytest.mark.parametrize("backend, flags", [("nftables", ("--fail", "closed", "--local")), ("iptables-nft", ("--fail", "closed", "--local")),
                                            ("iptables-legacy", ()), ("ebpf", ())])
def test_over_every_backend(lab, start, echo, need, backend, flags):
    if backend.startswith("iptables"):
        need(backend, "iptables")
    if backend == "ebpf" and not limpid_process.has_ebpf():
        pytest.skip("this build has no eBPF backend: it was made without clang, bpftool or libbpf")
    echo(80)
    limpid = start("--tcp", "80,81", "--udp", str(PORT), "--backend", backend, *(("--workers", "1") if backend == "ebpf" else ()), *flags)
    listener, server = lab.server.listen(81), lab.server.datagrams(PORT)
    connection = lab.dial_relayed(listener)
    own = None
    if flags:
        own = lab.router.connect(lab.server.address, 81)
        peer, _ = listener.accept()
        peer.settimeout(10)
        exchange(own, peer)
    datagrams = lab.client.datagrams()
    seen = ask(datagrams, server, lab)
    client = ContinuousClient(lab, 80, range(11000, 16000))
    before = snapshot(lab.router)
    for _ in range(2):
        client.wait_for_more(10)
        assert upgrade(lab, limpid)["flows"] >= 1
        wait_until(lambda: limpid.messages.count("msg=intercepting") > _ + 1, "it has the rules")
        exchange(connection.client, connection.server)
        assert ask(datagrams, server, lab) == seen
        if own:
            exchange(own, peer)
    client.wait_for_more(10)
    assert failures(client.stop()) == []
    after = snapshot(lab.router)
    changed = {key for key in after if before.get(key) != after[key]}
    assert not changed & {"ip -4 rule", "ip -6 rule", "nft list ruleset"}, changed
    assert limpid.stop() == 0
    assert installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("with an iptables, the kernel notices later that nobody listens")
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_a_successor_has_a_keeper_of_its_own_and_no_more_rights(lab, start, echo, fail):
    """Who relays has no rights to pass on: the keeper starts it. docs/privileges.md."""
    echo(80)
    limpid = start("--tcp", "80", "--fail", fail)
    first = limpid.children()["limpid-rules"]
    for _ in range(2):
        upgrade(lab, limpid)
        wait_until(lambda: not os.path.exists(f"/proc/{first}"), "the keeper has ended with the process that it served")
        keeper = limpid.children()["limpid-rules"]
        assert capabilities(limpid.pid) == {NET_RAW} and NET_ADMIN in capabilities(keeper)
        first = keeper
    # The new one's rules are kept, and its death is noticed, as after every start.
    lab.router.run("nft", "delete", "table", *installed(lab.router)[0].split()[1:])
    wait_until(lambda: installed(lab.router) != [], "they are put back")
    connection = lab.client.connect(lab.server.address, 80)
    limpid.process.kill()
    assert limpid.process.wait() == -signal.SIGKILL
    assert Orphan(keeper).wait() == 0, "the keeper has done what is declared"
    assert (installed(lab.router) == []) == (fail == "open")
    connection.close()
    lab.router.run(limpid_process.BINARY, "rules", "remove")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_the_keeper_is_gone(lab, start, echo):
    """Nobody is left who could start a successor."""
    echo(80)
    limpid = start("--tcp", "80")
    os.kill(limpid.children()["limpid-rules"], signal.SIGKILL)
    wait_until(lambda: "the process that keeps the rules has ended" in limpid.messages, "it is noticed")
    assert "the process that keeps the rules has ended" in refused(lab)
    connection = lab.client.connect(lab.server.address, 80)
    connection.sendall(b"still here")
    assert read_exactly(connection, 10) == b"still here"
    assert limpid.stop() == 1 and "rules stay in the kernel" in limpid.messages
    lab.router.run(limpid_process.BINARY, "rules", "remove")
