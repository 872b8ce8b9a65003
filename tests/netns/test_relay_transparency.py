"""`limpid relay` with TCP Fast Open, behind tproxy rules, and with --chroot."""

import contextlib
import json
import os
import socket

import pytest

import limpid_process
from limpid_process import DONE
from peers import bytes_of, exchange, read_exactly, read_to_end, wait_until
from plain_relay import PORT, at, children, dial, is_relayed, status_of

CAP_NET_RAW = 13


# --- TCP Fast Open


def extended_counters(host, *names):
    """nstat's TcpExt, of this namespace."""
    with host.inside(), open("/proc/thread-self/net/netstat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    values = dict(zip(*lines))
    return tuple(int(values[name]) for name in names)


MSG_FASTOPEN = 0x20000000


@pytest.fixture
def fast_open(lab):
    """Switches it on for everybody and returns a function that dials the relay with bytes in the SYN."""
    for host in lab.hosts:
        host.sysctl("net/ipv4/tcp_fastopen", 3)

    def call(data):
        client = lab.client.socket()
        timeout = client.gettimeout()
        client.settimeout(None)  # Python's sockets with a time limit do not wait for the handshake by themselves
        client.sendto(data, MSG_FASTOPEN, (lab.router.address, PORT))
        client.settimeout(timeout)
        return client

    return call


def fast_listener(lab, port):
    listener = lab.server.listen(port)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    return listener


def accept(listener):
    server, _ = listener.accept()
    server.settimeout(5)
    return server


def serve_fast(client, listener, data):
    server = accept(listener)
    assert read_exactly(server, len(data)) == data
    exchange(client, server)
    client.close()
    server.close()


def test_fast_open_on_both_legs(lab, relay, fast_open):
    """The first connection earns the cookies, the second one's bytes travel in both SYNs."""
    instance = relay("--fastopen", PORT, lab.server.address, 80)
    listener = fast_listener(lab, 80)
    counters = "TCPFastOpenPassive", "TCPFastOpenActive", "TCPFastOpenActiveFail"
    assert extended_counters(lab.router, *counters) == (0, 0, 0)
    serve_fast(fast_open(b"first"), listener, b"first")
    assert extended_counters(lab.router, *counters) == (0, 0, 0)
    serve_fast(fast_open(b"second" * 200), listener, b"second" * 200)
    assert extended_counters(lab.router, *counters) == (1, 1, 0)
    assert extended_counters(lab.client, "TCPFastOpenActive") == (1,)
    assert extended_counters(lab.server, "TCPFastOpenPassive") == (1,)
    assert {flow["bytes_up"] for flow in instance.flows(2)} == {"1005", "2200"}
    assert instance.counters()["bytes_up"] == 3205


def test_fast_open_without_it_there_is_none(lab, relay, fast_open):
    """The control of the test above: the counters count what --fastopen does."""
    relay(PORT, lab.server.address, 80)
    listener = fast_listener(lab, 80)
    for data in (b"first", b"second"):
        serve_fast(fast_open(data), listener, data)
    assert extended_counters(lab.router, "TCPFastOpenPassive", "TCPFastOpenActive") == (0, 0)


def test_fast_open_a_target_may_speak_first(lab, relay, fast_open):
    """With a cookie, the kernel would hold the SYN back until somebody writes."""
    relay("--fastopen", PORT, lab.server.address, 80)
    listener = fast_listener(lab, 80)
    serve_fast(fast_open(b"for the cookie"), listener, b"for the cookie")
    client = lab.client.connect(lab.router.address, PORT)
    server = accept(listener)
    server.sendall(b"220 welcome")
    assert read_exactly(client, 11) == b"220 welcome"
    exchange(client, server)


def test_fast_open_what_a_failed_target_took_goes_to_the_next(lab, relay, fast_open):
    """The first target gives a cookie, then disappears: the bytes of the SYN that it refuses belong to the second."""
    instance = relay("--fastopen", PORT, lab.server.address, 80, "--target", at(lab.server.address, 81))
    first, second = fast_listener(lab, 80), fast_listener(lab, 81)
    serve_fast(fast_open(b"for the cookie"), first, b"for the cookie")
    first.close()
    for data in (b"once", bytes_of(5, 1200)):
        client = fast_open(data)
        client.shutdown(socket.SHUT_WR)
        server = accept(second)
        assert read_to_end(server) == data
        server.sendall(b"answer")
        server.close()
        assert read_to_end(client) == b"answer"
    assert {flow["bytes_up"] for flow in instance.flows(3)} == {"1014", "4", "1200"}
    assert instance.counters()["target_failovers"] == 2


def test_fast_open_a_refusal_that_comes_at_once_is_not_missed(lab, relay, fast_open):
    """On this very host the answer to a SYN is there before the next system call."""
    instance = relay("--fastopen", PORT, "127.0.0.1", 81, "--target", "::1", "--target", lab.server.address)
    listener = fast_listener(lab, 81)  # --target's port is PORT's
    for data in (b"first", b"second"):
        serve_fast(fast_open(data), listener, data)
    assert instance.counters()["target_failovers"] == 4
    listener.close()
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.router.address, PORT).recv(1)
    assert [flow["end"] for flow in instance.flows(3)].count("connect_refused") == 1


def test_fast_open_says_what_the_kernel_lacks(lab, relay):
    lab.router.sysctl("net/ipv4/tcp_fastopen", 0)
    instance = relay("--fastopen", PORT, lab.server.address, 80)
    assert "sysctl -w net.ipv4.tcp_fastopen=2" in instance.messages
    assert "sysctl -w net.ipv4.tcp_fastopen=1" in instance.messages
    is_relayed(lab, lab.server.listen(80))


# --- --tproxy


def nft_rules(lab):
    """What the kernel's document has people type, for one family."""
    protocol, address = {"ipv4": ("ip", "127.0.0.1"), "ipv6": ("ip6", "[::1]")}[lab.family]
    lab.router.nft(f"""table {protocol} doc {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto tcp socket transparent 1 meta mark set 1 accept
    iifname lan tcp dport 80 tproxy to {address}:50080 meta mark set 1
  }}
}}
""")
    version = {"ipv4": "-4", "ipv6": "-6"}[lab.family]
    lab.router.run("ip", version, "rule", "add", "fwmark", "1", "lookup", "100")
    lab.router.run("ip", version, "route", "add", "local", "default", "dev", "lo", "table", "100")


@contextlib.contextmanager
def limpid_rules(lab, *flags):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", "50080", *flags)
    try:
        yield
    finally:
        lab.router.run(limpid_process.BINARY, "rules", "remove")


@pytest.mark.parametrize("source", [None, "none", "address", "prefer-port"])
def test_tproxy_brings_what_was_dialled_elsewhere(lab, relay, source):
    nft_rules(lab)
    instance = relay("--tproxy", 50080, lab.server.address, 8000, *(["--source", source] if source else []))
    connection = lab.dial(lab.server.listen(8000), address=lab.nowhere, port=80)
    exchange(connection.client, connection.server)
    assert connection.seen[0] == (lab.wan if source == "none" else lab.client.address)
    assert (connection.seen == connection.local) == (source == "prefer-port")
    connection.client.close()
    connection.server.close()
    assert instance.flow()["orig_dst"] == at(lab.nowhere, 80)


def test_tproxy_behind_the_rules_of_limpid_and_confined(lab, relay, tmp_path):
    with limpid_rules(lab):
        instance = relay("-t", "--chroot", tmp_path, 50080, lab.server.address, 80)
        connection = lab.dial_relayed(lab.server.listen(80))
        exchange(connection.client, connection.server)
        assert connection.seen[0] == lab.client.address
        status = status_of(instance.pid)
        assert status["Uid"].split()[0] != "0"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << CAP_NET_RAW
        connection.client.close()
        connection.server.close()
        assert instance.stop() == DONE


def test_tproxy_keeps_the_port_beside_conntrack(lab, relay, tmp_path):
    """Both legs have one 5-tuple: they carry the bypass mark, and the rules keep them untracked. Ports below 1024 are kept too."""
    lab.router.nft("table inet track {\nchain forward {\ntype filter hook forward priority 0\nct state invalid drop\n}\n}\n")
    with limpid_rules(lab, "--source", "address+port"):
        plan = json.loads(lab.router.run(limpid_process.BINARY, "rules", "show", "--tcp", "80", "--source", "address+port",
                                         "--json").stdout)
        instance = relay("--tproxy", "--source", "address+port", "--mark", plan["mark"]["bypass"], "--chroot", tmp_path, 50080,
                         lab.server.address, 80)
        listener = lab.server.listen(80)
        for source_port in (20001, 601):
            client = lab.client.connect(lab.server.address, 80, source_port=source_port)
            server, seen = listener.accept()
            server.settimeout(5)
            assert seen[:2] == (lab.client.address, source_port)
            exchange(client, server)
            server.close()
            client.close()
        assert {flow["source"] for flow in instance.flows(2)} == {"address+port"}
        assert instance.stop() == DONE


def test_tproxy_to_a_target_of_the_other_family_cannot_keep_the_source(lab, relay):
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[lab.family]
    instance = relay("--tproxy", PORT, lab.server.addresses[other], 80)
    connection = is_relayed(lab, lab.server.listen(80, family=other))
    assert connection.seen[0] == lab.router.wan_addresses[other]
    assert instance.flow()["source"] == "none"
    assert instance.counters()["source_fallback_none"] == 1


def test_tproxy_to_a_target_on_this_host_cannot_keep_the_source(lab, relay):
    instance = relay("--tproxy", PORT, lab.wan, 80)
    assert "on this host" in instance.messages
    listener = lab.router.listen(80)
    is_relayed(lab, listener)


# --- --chroot


def test_chroot_leaves_nothing_to_lose(lab, relay, tmp_path):
    instance = relay("--chroot", tmp_path, PORT, "localhost", 80, "--target", lab.server.address)
    resolver, = children(instance.pid)
    for pid in (instance.pid, resolver):
        # The resolver gives up its rights while the relay begins to serve.
        status = wait_until(lambda: (seen := status_of(pid))["NoNewPrivs"] == "1" and seen, "it has nothing to lose")
        assert set(status["Uid"].split() + status["Gid"].split()) == {"65534"}
        assert status["Groups"].strip() == ""
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"
    assert os.readlink(f"/proc/{instance.pid}/root") == str(tmp_path)
    assert os.readlink(f"/proc/{resolver}/root") == "/", "names are still resolved with the host's files"
    is_relayed(lab, lab.server.listen(80))
    assert instance.stop() == DONE


def test_chroot_flows_reach_the_limit_of_descriptors_unharmed(lab, relay, tmp_path):
    """The descriptor that is set aside to refuse with needs no /dev/null."""
    instance = relay("--chroot", tmp_path, "--max-flows", "2", PORT, lab.server.address, 80)
    listener = lab.server.listen(80)
    kept = [dial(lab, listener) for _ in range(2)]
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.router.address, PORT).recv(1)
    for connection in kept:
        exchange(connection.client, connection.server)
    assert instance.flow()["end"] == "refused_limit"
