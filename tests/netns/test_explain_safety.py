"""`limpid explain` leaves no trace: in the kernel, in the traffic beside it, after a kill. And what it refuses, it refuses in one line."""

import subprocess

import pytest

import kernel_state
import limpid_process
from explain_process import NO_LISTENER, Eavesdropper, endpoint, forwarded, local, run
from limpid_process import BACKEND, FAILURE, UNSUPPORTED, USAGE
from local_programs import ALICE, BOB
from peers import wait_until
from traffic import ContinuousClient, failures

TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "udp"])


@TRANSPORTS
def test_local_intercepted(lab, start, need, transport):
    need("conntrack", "conntrack")
    ears = Eavesdropper(lab.server)
    lab.router.nft("table inet tracking {\n chain c {\n type filter hook output priority 0; policy accept;\n ct state new accept\n }\n}\n")
    limpid = start("--tcp", "80", "--udp", "80", "--local")
    before = kernel_state.snapshot(lab.router)
    answer = local(lab, transport, arguments=("--uid", ALICE))
    assert answer["verdict"] == "intercepted" and answer["instance"] == "limpid" and answer["user"] == ALICE
    assert answer["local"] and answer["interface"] is None
    if BACKEND == "ebpf":
        assert [(each["decision"], each["interface"]) for each in answer["ebpf"]] == [("to loopback", "wan")], "behind the last hook"
    else:
        hooks = [step["hook"] for step in answer["steps"]]
        assert hooks.index("output") < hooks.index("prerouting")
    assert answer["relay"]["pid"] == limpid.pid
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == [], "no entry in a set either"
    # the counts of /proc/net/nf_conntrack would need a sysctl; conntrack(8) asks the kernel
    assert lab.router.run("conntrack", "-L").stdout == ""
    assert ears.packets == 0 and limpid.log == []


@TRANSPORTS
def test_local_bypassed_by_user(lab, start, transport):
    start("--tcp", "80", "--udp", "80", "--local", "--exclude-uid", str(ALICE))
    answer = local(lab, transport, arguments=("--uid", ALICE))
    assert answer["verdict"] == "bypassed" and "the program is excluded (" in answer["reason"] and str(ALICE) in answer["reason"]
    assert local(lab, transport, arguments=("--uid", BOB))["verdict"] == "intercepted"


@pytest.mark.parametrize("flag", ["--uid", "--gid"])
def test_local_bypassed_as_none_of_the_chosen(lab, start, flag):
    start("--tcp", "80", "--local", flag, str(ALICE))
    assert "the program is none of --uid, " in local(lab)["reason"]
    assert local(lab, arguments=(flag, ALICE))["verdict"] == "intercepted"


@TRANSPORTS
def test_local_is_not_in_scope(lab, start, transport):
    start("--tcp", "80", "--udp", "80")
    answer = local(lab, transport)
    assert answer["verdict"] == "bypassed" and answer["left_by"] == "wan" and "no --local" in answer["reason"]


@TRANSPORTS
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_local_when_nobody_listens(lab, start, transport, fail):
    ears = Eavesdropper(lab.server)
    start("--tcp", "80", "--udp", "80", "--local", "--fail", fail).kill()
    answer = local(lab, transport)
    assert answer["verdict"] == {"open": "bypassed", "closed": "rejected"}[fail]
    assert NO_LISTENER in answer["reason"] and f"fail-{fail}" in answer["reason"]
    assert ears.packets == 0, "not the copy that is sent on either"


@TRANSPORTS
def test_local_without_a_route(lab, transport):
    answer = local(lab, transport, address=lab.nowhere)
    assert answer["verdict"] == "dropped" and "unreachable" in answer["reason"]


def test_local_dropped_by_a_rule_about_the_user(lab):
    lab.router.nft(f"table inet wall {{\n chain c {{\n type filter hook output priority 0; policy accept;\n meta skuid {ALICE} drop\n }}\n}}\n")
    answer = local(lab, arguments=("--uid", ALICE))
    assert answer["verdict"] == "dropped" and f"inet wall c: meta skuid {ALICE} drop" in answer["reason"]
    assert local(lab, arguments=("--uid", BOB))["verdict"] == "bypassed"


def test_traffic_beside_it_loses_nothing(lab, start, echo):
    echo(80), echo(9999)
    start("--tcp", "80")
    relayed = ContinuousClient(lab, 80, range(1025, 20001))
    plain = ContinuousClient(lab, 9999, range(20001, 60001))
    for _ in range(3):
        assert forwarded(lab)["verdict"] == "intercepted"
        assert forwarded(lab, port=9999)["verdict"] == "bypassed"
    for client in (relayed, plain):
        attempts = client.stop()
        assert len(attempts) > 20 and failures(attempts) == []


def test_a_killed_one_leaves_what_the_next_takes_away(lab, start):
    start("--tcp", "80")
    before = kernel_state.snapshot(lab.router)

    def tables():
        return "limpid__explain" in lab.router.run("nft", "list", "tables").stdout

    # Nothing is heard of this one, so it waits a while.
    process = lab.router.start([limpid_process.BINARY, "explain", "tcp", lab.client.address, endpoint(lab.nowhere, 9)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: tables() or process.poll() is not None, "its table")
    process.kill()
    assert process.wait() < 0, "killed before it was done"
    assert tables(), "and so its table is still there"
    assert forwarded(lab)["verdict"] == "intercepted"
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_several_at_a_time(lab, start):
    start("--tcp", "80")
    command = [limpid_process.BINARY, "explain", "tcp", lab.client.address, endpoint(lab.server.address, 80)]
    processes = [lab.router.start(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0 and "verdict: intercepted" in output


def test_names_that_nft_cannot_have(lab, need):
    """A chain of others whose name is no word of nft's language is shown by its rule's handle."""
    program = {"ipv4": "iptables-nft", "ipv6": "ip6tables-nft"}[lab.family]
    need(program, "iptables")
    lab.router.run(program, "-N", "x{y}\"")
    lab.router.run(program, "-A", "x{y}\"", "-j", "DROP")
    lab.router.run(program, "-A", "FORWARD", "-j", "x{y}\"")
    before = kernel_state.snapshot(lab.router)
    answer = forwarded(lab)
    assert answer["verdict"] == "dropped" and "rule handle" in answer["reason"] and answer["notes"]
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


WRONG_USE = [
    ([], "PROTOCOL"),
    (["tcp"], "SRC"),
    (["icmp", "192.0.2.2", "198.51.100.2:80"], "icmp"),
    (["tcp", "192.0.2.2", "198.51.100.2"], "no port"),
    (["tcp", "192.0.2.2", "198.51.100.2:0"], "198.51.100.2:0"),
    (["tcp", "192.0.2.2", "198.51.100.2:65536"], "65536"),
    (["tcp", "192.0.2.2", "198.51.100.2:80x"], "80x"),
    (["tcp", "192.0.2.2", "example.org:80"], "example.org:80"),
    (["tcp", "192.0.2.2", "2001:db8::1:80"], "no port"),
    (["tcp", "192.0.2.2", "[2001:db8::1"], "bracket"),
    (["tcp", "192.0.2.2", "[2001:db8::1]80"], "[2001:db8::1]80"),
    (["tcp", "192.0.2.2", "[2001:db8:2::2]:80"], "family"),
    (["tcp", "192.0.2.2;drop", "198.51.100.2:80"], "192.0.2.2;drop"),
    (["tcp", "192.0.2.2\x1b[2J", "198.51.100.2:80"], "192.0.2.2?"),
    (["tcp", "any", "198.51.100.2:80"], "any"),
    (["tcp", "198.51.100.2:80"], "SRC"),
    (["tcp", "1.1.1.1", "2.2.2.2:80", "3.3.3.3:80"], "3.3.3.3:80"),
    (["tcp", "192.0.2.2", "198.51.100.2:80", "--in", 'lan"; flush ruleset; "'], "flush ruleset"),
    (["tcp", "192.0.2.2", "198.51.100.2:80", "--in", "a-name-that-is-too-long"], "a-name-that-is-too-long"),
    (["tcp", "192.0.2.2", "198.51.100.2:80", "--in", "lan", "--local"], "--local"),
    (["tcp", "192.0.2.2", "198.51.100.2:80", "--uid", "0"], "--local"),
    (["tcp", "198.51.100.2:80", "--local", "--uid", "no-such-user"], "no-such-user"),
    (["tcp", "198.51.100.2:80", "--local", "--uid", "4294967295"], "4294967295"),
    (["tcp", "192.0.2.1", "198.51.100.2:80"], "--local"),
    (["tcp", "203.0.113.1", "198.51.100.2:80"], "--in"),
]


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments, says", WRONG_USE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use(lab, arguments, says):
    fails(lab, arguments, USAGE, says)


def fails(lab, arguments, status, says, prefix=()):
    before = kernel_state.snapshot(lab.router)
    done = run(lab, *arguments, check=False, prefix=prefix)
    assert done.returncode == status and done.stdout == "", done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and says in lines[0] and "\x1b" not in lines[0], done.stderr
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("interface, says", [("no-such-if", "no-such-if"), ("down0", "it is down")])
def test_an_interface_where_nothing_arrives(lab, interface, says):
    lab.router.run("ip", "link", "add", "down0", "type", "bridge")
    fails(lab, ["tcp", "192.0.2.2", "198.51.100.2:80", "--in", interface], FAILURE, says)


@pytest.mark.parametrize("prefix", [["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
                                    ["setpriv", "--bounding-set=-net_admin"]], ids=["nobody", "root without net_admin"])
def test_missing_privileges(lab, prefix):
    """What can be answered without, the routing, is."""
    arguments = ["tcp", lab.client.address, endpoint(lab.server.address, 80)]
    fails(lab, arguments, UNSUPPORTED, "CAP_NET_ADMIN", prefix)
    fails(lab, arguments, UNSUPPORTED, "by wan", prefix)


def test_missing_bpf(lab):
    """In a container that may do everything to its network but this."""
    arguments = ["tcp", lab.client.address, endpoint(lab.server.address, 80)]
    fails(lab, arguments, UNSUPPORTED, "CAP_BPF", ["setpriv", "--bounding-set=-bpf,-sys_admin"])
