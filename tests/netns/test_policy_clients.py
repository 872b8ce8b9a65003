"""Rules decide by what can be learnt of a client beside its addresses: interface, DSCP and MAC address of its packets; user, group, cgroup and program where it is one of this host."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import limpid_process
from lab import SECONDS
from local_programs import ALICE, BOB, as_user

PORTS = range(8000, 8010)
SCOPE = f"{PORTS[0]}-{PORTS[-1]}"
# Dials once over each transport, and waits to be refused: a reset, and an ICMP error.
DIAL = """
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(family, kind); s.settimeout(10)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        if kind == socket.SOCK_DGRAM:
            s.send(b'question')
        s.recv(1)
    except (ConnectionResetError, ConnectionRefusedError):
        continue
    sys.exit('it was not refused')
"""


@pytest.fixture(autouse=True)
def as_many_icmp_errors_as_refusals(lab):
    lab.router.sysctl("net/ipv4/icmp_ratelimit", 0)
    lab.router.sysctl("net/ipv6/icmp/ratelimit", 0)


def refused_over_both(host, port, address, options=(), source=None):
    """From the test itself, with socket options."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind, error in ((socket.SOCK_STREAM, ConnectionResetError), (socket.SOCK_DGRAM, ConnectionRefusedError)):
        with host.inside(), socket.socket(family, kind) as client:
            client.settimeout(SECONDS)
            for option in options:
                client.setsockopt(*option)
            if source:
                client.bind((source, 0))
            with pytest.raises(error):
                client.connect((address, port))
                if kind == socket.SOCK_DGRAM:
                    client.send(b"question")
                client.recv(1)


def dial_as(lab, port, user=0, program=sys.executable, before=None):
    def prepare():
        if before:
            before()
        if user:
            as_user(user)()
    with lab.router.inside():
        done = subprocess.run([program, "-c", DIAL, lab.server.address, str(port)], capture_output=True, text=True, timeout=3 * SECONDS,
                              preexec_fn=prepare, check=False)
    assert done.returncode == 0, done.stderr


def rules_that_decided(limpid, count):
    """(transport, port) → number of the rule."""
    flows = limpid.flows(count)
    assert all(flow["end"] == "rejected" for flow in flows)
    return {(flow["proto"], int(flow["orig_dst"].rsplit(":", 1)[1])): int(flow["rule"]) for flow in flows}


def over_both(**ports):
    return {(transport, int(port[1:])): rule for port, rule in ports.items() for transport in ("tcp", "udp")}


def mac_of(host, interface):
    return json.loads(host.run("ip", "-j", "link", "show", interface).stdout)[0]["address"]


def test_interface_dscp_and_mac_address_of_a_forwarded_client(lab, start, configure):
    """By the SYN's successor and by the first datagram; with the program of the same port number next to it, on the router."""
    limpid = start("-c", configure(tcp=SCOPE, udp=SCOPE, local=True, rules=[
        "dport(8000) && iif(wan) -> drop",
        "dport(8000) && iif(eth7, lan) -> reject",
        "dport(8000) && iif(lo) -> reject",
        "dport(8001) && !dscp(ef, 10) -> reject",
        "dport(8001) && dscp(af41, ef) -> reject",
        f"dport(8002) && mac(02:00:00:00:00:01, {mac_of(lab.client, 'eth0')}) -> reject",
        "dport(8002,8003) -> reject",
    ]), "--workers", "1")
    for port in (8000, 8001, 8002, 8003):
        refused_over_both(lab.client, port, lab.server.address)
    assert rules_that_decided(limpid, 8) == over_both(p8000=2, p8001=4, p8002=6, p8003=7)
    marked = [(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2 | 1)] if lab.family == "ipv4" else [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 46 << 2 | 1)]
    refused_over_both(lab.client, 8001, lab.server.address, marked)
    for port in (8000, 8002):
        refused_over_both(lab.router, port, lab.server.address)
    assert [flow["rule"] for flow in limpid.flows(14)[8:]] == ["5", "5", "3", "3", "7", "7"], "a program of this host has no MAC address"


def test_the_mac_address_of_the_last_hop(lab, start, configure):
    """A client behind another router, which is no neighbour: a connection has that router's MAC address, from its SYN; datagrams have none. A reload may ask for it:
    whoever is first then is looked up among the neighbours."""
    beyond, length = ("203.0.113.5", 32) if lab.family == "ipv4" else ("2001:db8:9::5", 128)
    lab.client.run("ip", "address", "add", f"{beyond}/{length}", "dev", "lo")
    lab.router.run("ip", "route", "add", f"{beyond}/{length}", "via", lab.client.address)
    limpid = start("-c", configure(tcp=SCOPE, udp=SCOPE, rules=["otherwise -> reject"]), "--workers", "1")
    configure(tcp=SCOPE, udp=SCOPE, rules=[f"mac({mac_of(lab.client, 'eth0').upper()}) -> reject", "otherwise -> reject"])
    lab.router.run(limpid_process.BINARY, "reload")
    refused_over_both(lab.client, 8000, lab.server.address)
    refused_over_both(lab.client, 8001, lab.server.address, source=beyond)
    assert rules_that_decided(limpid, 4) == {("tcp", 8000): 1, ("udp", 8000): 1, ("tcp", 8001): 1, ("udp", 8001): 2}


def test_users_groups_and_programs_of_this_host(lab, start, configure):
    """And of nobody else: a forwarded client is none, whoever runs it."""
    limpid = start("-c", configure(tcp=SCOPE, udp=SCOPE, local=True, rules=[
        f"dport(8000) && uid({ALICE}) -> reject",
        f"dport(8000) && uid(root, {BOB}-{BOB + 9}) -> reject",
        f"dport(8001) && gid({ALICE}) -> reject",
        "dport(8001) && gid(root) -> reject",
        f"dport(8002) && process(curl, {os.path.basename(os.path.realpath(sys.executable))}) -> reject",
        f"dport(8003) && process({os.path.realpath(sys.executable)}) -> reject",
        "dport(8004) && process(python) -> drop",
        "otherwise -> reject",
    ]), "--workers", "1")
    for port, user in ((8000, ALICE), (8001, ALICE), (8002, BOB), (8003, ALICE), (8004, ALICE)):
        dial_as(lab, port, user)
    assert rules_that_decided(limpid, 10) == over_both(p8000=1, p8001=3, p8002=5, p8003=6, p8004=8)
    for port, user in ((8000, BOB), (8001, BOB)):
        dial_as(lab, port, user)
    for port in (8000, 8001):
        refused_over_both(lab.router, port, lab.server.address)
    for port in (8000, 8001, 8002):
        refused_over_both(lab.client, port, lab.server.address)
    assert [flow["rule"] for flow in limpid.flows(24)[10:]] == ["2", "2", "8", "8", "2", "2", "4", "4"] + ["8"] * 6


@pytest.fixture
def cgroup():
    """A cgroup of version 2 of the test's own, in another one of its own."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="ascii").splitlines() if " - cgroup2 " in line]
    outer = Path(mounts[0] if mounts else "/", f"limpid-test-{os.getpid()}")
    try:
        (outer / "inner").mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no cgroup v2 to make groups in: {error}")
    yield outer / "inner", f"/{outer.name}"
    (outer / "inner").rmdir()
    outer.rmdir()


def test_cgroups_with_all_below(lab, start, configure, cgroup):
    folder, outer = cgroup

    def enter():
        (folder / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    limpid = start("-c", configure(tcp=SCOPE, udp=SCOPE, local=True, rules=[
        f"dport(8000) && cgroup({outer}) -> reject",
        f"dport(8001) && cgroup({outer}/inner/) -> reject",
        f"dport(8002) && cgroup({outer}/inn, /nowhere) -> reject",
        "dport(8003) && !cgroup(/) -> reject",
        "otherwise -> reject",
    ]), "--workers", "1")
    for port in (8000, 8001, 8002, 8003):
        dial_as(lab, port, before=enter)
    assert rules_that_decided(limpid, 8) == over_both(p8000=1, p8001=2, p8002=5, p8003=5)
    for port in (8000, 8001):
        dial_as(lab, port)
    refused_over_both(lab.client, 8003, lab.server.address)
    assert [flow["rule"] for flow in limpid.flows(14)[8:]] == ["5"] * 4 + ["4"] * 2
