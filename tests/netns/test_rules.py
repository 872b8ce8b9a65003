"""`limpid rules`: the same plan, to read, to install without our relay, to compare, to take away."""

import json

import pytest

import ebpf_state
import limpid_process
from kernel_state import difference, installed, snapshot
from limpid_process import BACKEND, DONE
from peers import exchange

SCOPE = ["--tcp", "80", "--listen-port", "3129"]


@pytest.fixture
def rules(lab):
    """rules(arguments…) runs `limpid rules` on the router."""
    def run(*arguments, check=True):
        verb, *rest = arguments
        return lab.router.run(limpid_process.BINARY, "rules", verb, *limpid_process.with_backend(f"rules {verb}", rest), check=check)
    return run


def test_apply_diff_and_remove_go_round(lab, rules):
    before = snapshot(lab.router)
    assert rules("diff", *SCOPE, check=False).returncode == 1, "nothing is there yet"
    rules("apply", *SCOPE)
    assert installed(lab.router)
    same = rules("diff", *SCOPE, check=False)
    assert (same.returncode, same.stdout) == (0, "")
    rules("apply", *SCOPE)  # again: no duplicates, no complaint
    assert rules("diff", *SCOPE, check=False).returncode == 0
    rules("remove")
    assert difference(before, snapshot(lab.router)) == []
    assert rules("diff", *SCOPE, check=False).returncode == 1


def first_rule(lab):
    family = {"ipv4": "-4", "ipv6": "-6"}[lab.family]
    lines = [line for line in lab.router.run("ip", family, "-details", "rule").stdout.splitlines()
             if "proto 76" in line and "lookup" in line]
    return family, lines[0].split(":")[0], lines[0].split("lookup ")[1].split()[0]


def delete_a_rule(lab):
    family, priority, _ = first_rule(lab)
    lab.router.run("ip", family, "rule", "del", "priority", priority)


def delete_the_route(lab):
    family, _, table = first_rule(lab)
    lab.router.run("ip", family, "route", "flush", "table", table)


def add_to_the_table(lab):
    lab.router.nft("add chain inet limpid intruder\nadd rule inet limpid intruder accept\n")


def flush_the_chains(lab):
    lab.router.nft("flush table inet limpid\n")


def delete_the_table(lab):
    lab.router.nft("delete table inet limpid\n")


def detach_a_program(lab):
    ebpf_state.detach(lab.router, "lan", "ingress")


ITS_TABLE = pytest.mark.nftables("its table")


@pytest.mark.parametrize("tamper", [
    delete_a_rule, delete_the_route, *(pytest.param(each, marks=ITS_TABLE) for each in (add_to_the_table, flush_the_chains, delete_the_table)),
    pytest.param(detach_a_program, marks=pytest.mark.skipif(BACKEND != "ebpf", reason="about eBPF"))])
def test_diff_notices(lab, rules, tamper):
    before = snapshot(lab.router)
    rules("apply", *SCOPE)
    tamper(lab)
    differs = rules("diff", *SCOPE, check=False)
    assert differs.returncode == 1 and differs.stdout.strip(), differs
    if tamper is not delete_the_table:  # without it, apply chooses afresh
        rules("apply", *SCOPE)
        assert rules("diff", *SCOPE, check=False).returncode == 0, "apply mends"
    rules("remove")
    assert difference(before, snapshot(lab.router)) == []


def test_diff_notices_another_scope(rules):
    rules("apply", *SCOPE)
    assert rules("diff", "--tcp", "81", "--listen-port", "3129", check=False).returncode == 1
    rules("remove")


def test_remove_without_anything_there_is_no_error(lab, rules):
    before = snapshot(lab.router)
    rules("remove")
    assert difference(before, snapshot(lab.router)) == []


def test_remove_takes_what_a_killed_run_left(lab, rules, start):
    before = snapshot(lab.router)
    start("--tcp", "80", "--fail", "closed").kill()
    assert installed(lab.router)
    rules("remove")
    assert difference(before, snapshot(lab.router)) == []


def test_remove_refuses_while_a_run_lives(lab, rules, start):
    limpid = start("--tcp", "80")
    refused = rules("remove", check=False)
    assert refused.returncode == 1 and str(limpid.pid) in refused.stderr
    connection = lab.dial(lab.server.listen(80))
    assert not connection.was_forwarded
    exchange(connection.client, connection.server)


@pytest.mark.not_ebpf("programs are no script")
def test_what_show_prints_is_what_apply_does(lab, rules):
    """Pasted into a shell, and compared with the kernel by diff."""
    numbers = ["--mark", "0x10/0x30", "--table", "7000", "--priority", "500"]
    script = rules("show", *SCOPE, *numbers).stdout
    before = snapshot(lab.router)
    assert difference(before, snapshot(lab.router)) == []
    lab.router.run("sh", "-e", "-c", script)
    by_hand = snapshot(lab.router)
    assert difference(before, by_hand)
    rules("remove")
    assert difference(before, snapshot(lab.router)) == []
    rules("apply", *SCOPE, *numbers)
    assert difference(by_hand, snapshot(lab.router)) == []
    rules("remove")


def test_show_changes_nothing_and_speaks_json(lab, rules):
    before = snapshot(lab.router)
    plan = json.loads(rules("show", *SCOPE, "--json").stdout)
    assert plan
    assert ("eBPF programs at tc ingress" if BACKEND == "ebpf" else "tproxy") in rules("show", *SCOPE).stdout.replace("TPROXY", "tproxy")
    assert difference(before, snapshot(lab.router)) == []


def test_another_proxy_gets_the_connections(lab, rules):
    """Any transparent listener: here a socket of the test's, which answers as the server would."""
    rules("apply", *SCOPE)
    listener = lab.router.socket()
    level, option = (0, 19) if lab.family == "ipv4" else (41, 75)  # IP_TRANSPARENT, IPV6_TRANSPARENT
    listener.setsockopt(level, option, 1)
    listener.bind(({"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family], 3129))
    listener.listen()
    client = lab.client.connect(lab.server.address, 80)
    accepted, peer = listener.accept()
    assert accepted.getsockname()[:2] == (lab.server.address, 80)
    assert peer[:2] == client.getsockname()[:2]
    exchange(client, accepted)
    accepted.close()
    rules("remove")


def test_two_instances_live_side_by_side(lab, start, rules):
    first = start("--tcp", "80", "--name", "one")
    second = start("--tcp", "81", "--name", "two")
    listeners = {port: lab.server.listen(port) for port in (80, 81, 82)}
    connections = {port: lab.dial(listener) for port, listener in listeners.items()}
    for connection in connections.values():
        exchange(connection.client, connection.server)
    assert {port: connection.was_forwarded for port, connection in connections.items()} == {80: False, 81: False, 82: True}
    connections[80].client.close()
    connections[80].server.close()
    assert first.stop() == DONE
    exchange(connections[81].client, connections[81].server)
    assert not lab.dial(listeners[81]).was_forwarded
    assert lab.dial(listeners[80]).was_forwarded
    first = start("--tcp", "80", "--name", "one", "--fail", "closed")
    second.kill()
    rules("remove", "--name", "two")
    assert not lab.dial(listeners[80]).was_forwarded
    assert lab.dial(listeners[81]).was_forwarded


def test_instances_with_overlapping_scopes_do_not_feed_each_other(lab, start):
    """The first takes it, and neither dials through the other for ever."""
    first = start("--tcp", "80", "--name", "one")
    second = start("--tcp", "80", "--name", "two")
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    total = first.counters()["flows_total"] + second.counters()["flows_total"]
    assert 1 <= total <= 2


LOCAL = ["--local", "--tcp", "80", "--udp", "53", "--listen-port", "3129", "--exclude-uid", "13"]


@pytest.mark.nftables("its tables and sets")
def test_local_traffic_goes_round_too(lab, rules):
    before = snapshot(lab.router)
    rules("apply", *LOCAL)
    assert len([line for line in installed(lab.router) if line.startswith("table")]) == 3
    assert rules("diff", *LOCAL, check=False).stdout == ""
    # Somebody asks a server here: remembered in a set, which is no difference.
    service, asking = lab.router.datagrams(5353), lab.server.datagrams(53)
    asking.sendto(b"question", (lab.wan, 5353))
    assert service.recv(100) == b"question"
    assert "elements" in lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    assert rules("diff", *LOCAL, check=False).stdout == ""
    family = {"ipv4": "ip", "ipv6": "ip6"}[lab.family]
    lab.router.run("nft", "delete", "table", family, "limpid")
    assert rules("diff", *LOCAL, check=False).stdout == f"missing: nft table {family} limpid\n"
    rules("apply", *LOCAL)
    assert f"removed nft table {family} limpid" in rules("remove").stdout
    assert difference(before, snapshot(lab.router)) == []


def test_local_rules_give_way_to_others(lab, rules):
    rules("apply", *SCOPE)
    without = installed(lab.router)
    rules("apply", *LOCAL)
    assert installed(lab.router) != without
    rules("apply", *SCOPE)
    assert installed(lab.router) == without
    assert rules("diff", *SCOPE, check=False).returncode == 0


def test_a_proxy_must_not_get_its_own_connections(lab, rules):
    done = rules("apply", "--local", "--tcp", "80", "--listen-port", "3129", check=False)
    assert done.returncode == 2 and "--exclude-uid" in done.stderr
    assert installed(lab.router) == []


@pytest.mark.nftables("its table")
def test_somebody_elses_table_of_our_name_stays(lab, rules):
    family = {"ipv4": "ip", "ipv6": "ip6"}[lab.family]
    lab.router.nft(f"table {family} limpid {{ chain theirs {{ accept; }}; }}\n")
    done = rules("apply", *LOCAL, check=False)
    assert done.returncode == 1 and f"nft table {family} limpid" in done.stderr
    rules("remove")
    assert "chain theirs" in lab.router.run("nft", "list", "table", family, "limpid").stdout
