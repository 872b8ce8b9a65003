"""UDP: `limpid run --udp`. The server tells whom it saw; replies come from the address that the client wrote to."""

import os
import shutil
import socket
import subprocess

import pytest

from limpid_process import FAILURE, Limpid
from peers import Background, wait_until
from udp_exchange import PORT, all_get_their_own_answers, answer, ask, nothing_comes, question

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0


@pytest.mark.not_ebpf("the port of a datagram is not kept")
def test_the_server_sees_the_clients_address_and_port_and_the_client_the_servers(lab, start, server):
    limpid = start("--udp", PORT)
    client = lab.client.datagrams()
    for _ in range(3):
        assert ask(client, server, lab)[:2] == (lab.client.address, client.getsockname()[1])
    counters = limpid.counters_with(udp_datagrams_up=3, udp_datagrams_down=3)
    assert counters["udp_sessions_total"] == counters["source_port_kept"] == 1


def test_without_source_the_server_sees_the_router(lab, start, server):
    start("--udp", PORT, "--source", "none")
    assert ask(lab.client.datagrams(), server, lab)[0] == lab.wan


def test_tcp_and_udp_beside_each_other(lab, start, server, echo):
    echo(PORT)
    limpid = start("--tcp", PORT, "--udp", PORT)
    ask(lab.client.datagrams(), server, lab)
    connection = lab.client.connect(lab.server.address, PORT)
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    connection.close()
    assert limpid.counters()["flows_total"] == 1


@pytest.mark.parametrize("size", [0, 1, 1200, 1472, 1473, 9000, 65000])
def test_every_size_arrives_whole_both_ways(lab, start, server, size):
    start("--udp", PORT)
    client = lab.client.datagrams()
    for sock in (client, server):
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    payload = os.urandom(size)
    question(client, lab, payload=payload)
    received, peer = server.recvfrom(65536)
    assert received == payload
    assert peer[0] == lab.client.address
    server.sendto(payload[::-1], peer)
    assert client.recv(65536) == payload[::-1]


def test_only_ports_in_scope_are_taken(lab, start):
    limpid = start("--udp", "7000,7100-7110", "--source", "address")
    client = lab.client.datagrams()
    for port, relayed in ((7000, True), (7001, False), (7099, False), (7100, True), (7110, True), (7111, False)):
        peer = ask(client, lab.server.datagrams(port), lab, port=port)
        assert (peer[1] != client.getsockname()[1]) == relayed, port
    assert limpid.counters()["udp_sessions_total"] == 1


def test_one_client_has_one_mapping_for_all_servers(lab, start):
    start("--udp", "7000-7020")
    client = lab.client.datagrams()
    seen = {ask(client, lab.server.datagrams(port), lab, port=port)[:2] for port in range(7000, 7010)}
    assert len(seen) == 1, "endpoint-independent mapping (RFC 4787 REQ-1)"


def test_address_and_port_dependent_mapping_has_one_for_each(lab, start):
    start("--udp", "7000-7020", "--udp-mapping", "address-and-port-dependent")
    client = lab.client.datagrams()
    seen = {ask(client, lab.server.datagrams(port), lab, port=port)[:2] for port in range(7000, 7005)}
    assert len(seen) == 5


def test_a_stranger_may_answer_with_endpoint_independent_filtering(lab, start, server):
    start("--udp", PORT)
    client = lab.client.datagrams()
    peer = ask(client, server, lab)
    stranger = lab.server.datagrams(9999)
    stranger.sendto(b"unexpected", peer)
    assert client.recvfrom(100)[0] == b"unexpected"


@pytest.mark.parametrize("flags", [("--udp-filtering", "address-and-port-dependent"),
                                   ("--udp-mapping", "address-and-port-dependent",
                                    "--udp-filtering", "address-and-port-dependent")])
def test_a_stranger_may_not_with_dependent_filtering(lab, start, server, flags):
    limpid = start("--udp", PORT, *flags)
    client = lab.client.datagrams()
    peer = ask(client, server, lab)
    stranger = lab.server.datagrams(9999)
    stranger.sendto(b"unexpected", peer)
    wait_until(lambda: limpid.counters()["udp_filtered"] == 1, "it is filtered")
    nothing_comes(client)
    ask(client, server, lab)


@pytest.mark.parametrize("workers", [1, 2])
def test_many_clients_to_one_server_never_get_each_others_answers(lab, start, server, workers):
    start("--udp", PORT, "--workers", workers)
    clients = [lab.client.datagrams() for _ in range(50)]
    ask(clients[0], server, lab)  # while neighbours are being looked for, the kernel keeps only a few datagrams
    all_get_their_own_answers(clients, server, lab)
    for client in clients:
        nothing_comes(client, 0.01)


def test_a_closed_port_is_refused_like_without_us_and_disturbs_no_other(lab, start, server):
    # The server must answer each datagram, not six in a row and then one a second (net.ipv4.icmp_ratelimit).
    lab.server.sysctl("net/ipv4/icmp_ratelimit", 0)
    lab.server.sysctl("net/ipv6/icmp/ratelimit", 0)
    limpid = start("--udp", "7000-7010")
    client = lab.client.datagrams()
    refused = lab.client.datagrams()
    refused.connect((lab.server.address, 7005))
    for _ in range(5):
        ask(client, server, lab)
        refused.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            refused.recv(100)
        question(client, lab, port=7006)  # the same session as the one that works
        ask(client, server, lab)
    assert limpid.counters()["udp_icmp_errors"] >= 5


def test_tos_is_kept_and_ttl_counts_down(lab, start, server):
    start("--udp", PORT)
    client = lab.client.datagrams()
    ipv4 = client.family == socket.AF_INET
    level, tos, ttl = ((socket.IPPROTO_IP, socket.IP_TOS, socket.IP_TTL) if ipv4
                       else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS))
    for sock in (client, server):
        sock.setsockopt(level, tos, 0xb8)
        sock.setsockopt(level, ttl, 33)
        if ipv4:
            sock.setsockopt(level, 13, 1)  # IP_RECVTOS
            sock.setsockopt(level, 12, 1)  # IP_RECVTTL
        else:
            sock.setsockopt(level, socket.IPV6_RECVTCLASS, 1)
            sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)

    def fields(sock):
        _, control, _, peer = sock.recvmsg(100, 200)
        values = sorted(int.from_bytes(data, "little") for _, _, data in control)
        return values, peer

    question(client, lab)
    values, peer = fields(server)
    assert values == [32, 0xb8]
    server.sendto(b"answer", peer)
    assert fields(client)[0] == [32, 0xb8]


def test_a_fixed_target_answers_in_the_name_of_the_one_dialled(lab, start, server):
    start("--udp", "53", "--target", f"[{lab.server.address}]:{PORT}" if lab.family == "ipv6"
          else f"{lab.server.address}:{PORT}")
    client = lab.client.datagrams()
    client.sendto(b"who?", (lab.nowhere, 53))
    assert answer(server)[1][0] == lab.client.address
    assert client.recvfrom(100)[1][:2] == (lab.nowhere, 53)


def test_the_routers_own_services_stay_its_own(lab, start):
    start("--udp", "53")
    resolver = lab.router.datagrams(53)  # a wildcard socket on a port in scope
    client = lab.client.datagrams()
    question(client, lab, 53, address=lab.router.address)
    received, peer = answer(resolver)
    assert (received, peer[1]) == (b"question", client.getsockname()[1])
    assert client.recv(100) == b"answer"


def test_a_wildcard_resolver_on_the_router_is_in_nobodys_way(lab, start):
    lab.router.datagrams(53)
    server = lab.server.datagrams(53)
    start("--udp", "53")
    client = lab.client.datagrams()
    for _ in range(3):
        assert ask(client, server, lab, port=53)[0] == lab.client.address


@pytest.mark.parametrize("wildcard", [True, False], ids=["wildcard", "loopback"])
def test_whoever_has_the_listeners_udp_port_is_named(lab, launch, wildcard):
    loopback = "127.0.0.1" if lab.family == "ipv4" else "::1"
    held = lab.router.datagrams(5353, None if wildcard else loopback)
    for flags in (("--udp", "53"), ("--tcp", "80", "--udp", "53")):
        limpid = launch(*flags, "--listen-port", 5353)
        assert limpid.process.wait(10) == FAILURE
        assert limpid.messages.count("\n") == 1
        assert "UDP port 5353" in limpid.messages and f"(pid {os.getpid()})" in limpid.messages
    launch("--tcp", 80, "--listen-port", 5353).ready()  # TCP's port of that number is another one
    held.close()


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_after_kill_9_the_declared_mode_holds(lab, start, server, mode):
    limpid = start("--udp", PORT, "--fail", mode)
    client = lab.client.datagrams()
    ask(client, server, lab)
    limpid.kill()
    if mode == "open":
        assert ask(client, server, lab)[1] == client.getsockname()[1]
        return
    rejected = lab.client.datagrams()
    rejected.connect((lab.server.address, PORT))
    rejected.send(b"anybody?")
    with pytest.raises(ConnectionRefusedError):
        rejected.recv(100)
    nothing_comes(server)


def test_bulk_is_intact(lab, start, need):
    need("iperf3", "iperf3")
    limpid = start("--udp", "5201", "--tcp", "5201")
    lab.server.start(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    wait_until(lambda: ":5201" in lab.server.run("ss", "-Hltn").stdout, "iperf3 listens")
    done = lab.client.run("iperf3", "-u", "-b", "50M", "-l", "1200", "-t", "2", "-c", lab.server.address, timeout=30)
    received = [line for line in done.stdout.splitlines() if "receiver" in line][0]
    lost, total = received.split()[-3].split("/")
    assert int(total) > 5000
    # Where the machine is busy, the receiver itself is too slow for what reaches it: Limpid is asked what it has passed on.
    counters = limpid.counters()
    assert counters["udp_dropped"] == 0
    assert counters["udp_datagrams_up"] >= int(total) * 0.98, received
    assert int(lost) < int(total), "something arrived"


def test_dns_with_real_programs(lab, start, need, tmp_path):
    need("dig", "bind9-dnsutils")
    need("dnsmasq", "dnsmasq-base")
    start("--udp", "53", "--tcp", "53")
    record = lab.server.address
    process = lab.server.start([shutil.which("dnsmasq"), "--no-daemon", "--no-resolv", "--no-hosts", "--log-queries",
                                "--conf-file=/dev/null", "--user=root", f"--pid-file={tmp_path}/pid",
                                f"--address=/example.org/{record}"], stderr=subprocess.PIPE, text=True)
    log = Background(process.stderr.read)
    wait_until(lambda: ":53 " in lab.server.run("ss", "-Hlun").stdout, "dnsmasq listens")
    kind = "A" if lab.family == "ipv4" else "AAAA"
    for flag in ("+notcp", "+tcp"):
        reply = lab.client.run("dig", f"@{lab.server.address}", flag, "+short", "+tries=1", "example.org", kind).stdout
        assert reply.strip() == record
    process.terminate()
    assert f"from {lab.client.address}" in log.result(), "the server saw the client"


@pytest.mark.parametrize("arguments, word", [
    (("--udp", "0"), "--udp"),
    (("--udp", "53-52"), "--udp"),
    (("--udp", "53", "--udp-mapping", "symmetric"), "--udp-mapping"),
    (("--udp", "53", "--udp-filtering", "none"), "--udp-filtering"),
    (("--udp", "53", "--udp-timeout", "soon"), "--udp-timeout"),
    (("--udp", "53", "--udp-timeout", "0"), "--udp-timeout"),
    (("--udp", "53", "--max-udp-sessions", "0"), "--max-udp-sessions"),
    (("--udp", "53", "--max-udp-sessions-per-source", "x"), "--max-udp-sessions-per-source"),
])
def test_a_wrong_flag_is_named_in_one_line(lab, launch, arguments, word):
    limpid: Limpid = launch(*arguments)
    assert limpid.process.wait(10) == 2
    assert limpid.messages.count("\n") == 1
    assert word in limpid.messages
