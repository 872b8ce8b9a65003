"""Programs of others that speak UDP through `limpid run --udp`: HTTP/3 by ngtcp2's client and server, and DNS under load."""

import re
import subprocess

import pytest

from http3_peers import BLOB, fetch
from peers import wait_until
from udp_exchange import listens_on_udp


def peers_of(log):
    """Whom the server received datagrams from, in order of appearance."""
    found = re.findall(r"^Received packet: local=\S+ remote=\[(\S+)\]:(\d+)", log, re.MULTILINE)
    assert found, log[:2000]
    return list(dict.fromkeys((address, int(port)) for address, port in found))


def test_http3_fetches_a_file(lab, start, http3, tmp_path):
    limpid = start("--udp", "443")
    fetched, said = fetch(lab, tmp_path)
    assert fetched == BLOB
    assert "path is ECN capable" in said, "the marks in the TOS field arrive on both sides"
    assert {address for address, _ in peers_of(http3())} == {lab.client.address}
    counters = limpid.counters()
    assert counters["udp_sessions_total"] == 1
    assert counters["bytes_down"] > len(BLOB)
    assert counters["udp_dropped"] == 0


# The client moves to another port 20 ms after the handshake. With NAT rebinding it does not even know it: the server has
# to find out and to validate the new path; the file is asked for after that, because this version of the client ignores
# what is still on its way to its old port.
@pytest.mark.parametrize("flags", [("--change-local-addr=20ms", "--delay-stream=100ms"),
                                   ("--change-local-addr=20ms", "--nat-rebinding", "--delay-stream=100ms")],
                         ids=["migration", "nat_rebinding"])
def test_a_quic_connection_survives_a_change_of_the_clients_port(lab, start, http3, tmp_path, flags):
    limpid = start("--udp", "443")
    fetched, said = fetch(lab, tmp_path, *flags)
    assert "Changing local address" in said
    assert fetched == BLOB
    peers = peers_of(http3())
    assert {address for address, _ in peers} == {lab.client.address}
    assert len(peers) == 2, "a mapping for each port of the client's"
    assert limpid.counters()["udp_sessions_total"] == 2


def start_dnsmasq(host, tmp_path, answer, name="example.org", flags=()):
    """dnsmasq on the wildcard addresses of `host`, answering `answer`. Returns the process."""
    folder = tmp_path / f"dnsmasq-{host.name}"
    folder.mkdir()
    process = host.start(["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root",
                          f"--pid-file={folder}/pid", f"--address=/{name}/{answer}", *flags],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: listens_on_udp(host, 53), "dnsmasq listens")
    return process


def test_no_question_of_dnsperf_is_lost(lab, start, need, tmp_path):
    need("dnsperf", "dnsperf")
    need("dnsmasq", "dnsmasq-base")
    limpid = start("--udp", "53")
    start_dnsmasq(lab.server, tmp_path, lab.server.address)
    kind = "A" if lab.family == "ipv4" else "AAAA"
    questions = tmp_path / "questions"
    questions.write_text("".join(f"host{number}.example.org {kind}\n" for number in range(1000)), encoding="ascii")
    done = lab.client.run("dnsperf", "-s", lab.server.address, "-d", questions, "-c", "20", "-Q", "1500", "-n", "2",
                          "-t", "5", timeout=30)
    figures = dict(re.findall(r"^ *(Queries sent|Queries completed|Queries lost|Response codes): +(.+?)(?: \(.*)?$",
                              done.stdout, re.MULTILINE))
    assert figures["Queries sent"] == "2000"
    assert figures["Queries completed"] == "2000", done.stdout
    assert figures["Queries lost"] == "0"
    assert figures["Response codes"] == "NOERROR 2000"
    counters = limpid.counters_with(udp_datagrams_up=2000, udp_datagrams_down=2000)  # relayed, all of them
    assert counters["udp_dropped"] == 0


def test_a_resolver_on_the_router_works_on_beside_it(lab, start, need, tmp_path):
    need("dig", "bind9-dnsutils")
    need("dnsmasq", "dnsmasq-base")
    answers = {"ipv4": ("203.0.113.1", "203.0.113.2"), "ipv6": ("2001:db8:f::1", "2001:db8:f::2")}[lab.family]
    router_resolver = start_dnsmasq(lab.router, tmp_path, answers[0])
    start_dnsmasq(lab.server, tmp_path, answers[1])
    limpid = start("--udp", "53")

    def ask(host, server):
        return host.run("dig", f"@{server}", "+notcp", "+short", "+tries=1", "www.example.org",
                        "A" if lab.family == "ipv4" else "AAAA").stdout.strip()

    for _ in range(3):
        assert ask(lab.client, lab.server.address) == answers[1], "past the router's own resolver"
        assert ask(lab.client, lab.router.address) == answers[0], "which answers those who ask it"
        assert ask(lab.client, lab.wan) == answers[0], "at any of its addresses"
        assert ask(lab.router, lab.router.address) == answers[0]
        assert ask(lab.router, lab.server.address) == answers[1]
    assert limpid.counters()["udp_sessions_total"] == 3
    line = [line for line in limpid.messages.splitlines() if f"dnsmasq (pid {router_resolver.pid})" in line]
    assert len(line) == 1 and "port=53 " in line[0], limpid.messages
