"""Somebody else takes Limpid's rules away while it runs: it notices, and puts them back."""

import os
import re
import subprocess
import threading
import time

import pytest

import kernel_state
from another_proxy import TransparentProxy
from limpid_process import DONE, USAGE
from peers import exchange, wait_until

ROUNDS = int(os.environ.get("LIMPID_REPAIR_ROUNDS", "3"))
QUICK = 0.25  # what is undone sooner counts as a fight, docs/run.md


@pytest.fixture
def proxy(lab):
    """What `rules watch` is for: a proxy of somebody else's, here one that dials the original destination as itself."""
    with TransparentProxy(lab, 3129) as running:
        yield running


@pytest.fixture(params=["run", "rules watch"])
def keep(request, lab):
    """keep(arguments…): Limpid keeps the rules, with a relay of its own or for another proxy."""
    if request.param == "run":
        return request.getfixturevalue("start")
    request.getfixturevalue("proxy")
    watch = request.getfixturevalue("watch")
    return lambda *arguments, **options: watch("--to-port", "3129", *arguments, **options)


def flag(lab):
    return {"ipv4": "-4", "ipv6": "-6"}[lab.family]


def flush_ruleset(lab):
    lab.router.run("nft", "flush", "ruleset")


def delete_the_table(lab):
    lab.router.run("nft", "delete", "table", "inet", "limpid")


def flush_a_chain(lab):
    lab.router.run("nft", "flush", "chain", "inet", "limpid", "prerouting")


def add_a_rule_of_theirs(lab):
    lab.router.run("nft", "insert", "rule", "inet", "limpid", "scope", "accept")


def delete_a_rule(lab):
    rule = next(line for line in lab.router.run("ip", flag(lab), "-details", "rule").stdout.splitlines()
                if "proto 76" in line and "lookup" in line)
    lab.router.run("ip", flag(lab), "rule", "del", "priority", rule.split(":")[0])


def flush_the_route(lab):
    lab.router.run("ip", flag(lab), "route", "flush", "table", "7676")


def rules_and_tables(lab):
    state = kernel_state.snapshot(lab.router)
    return {key: value for key, value in state.items() if not key.startswith("/proc")}


def assert_intercepted(lab, listener):
    """In the lab a connection that is only forwarded has the client's own port on the server as well."""
    assert not lab.dial(listener).was_forwarded


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("tamper", [flush_ruleset, delete_the_table, flush_a_chain, add_a_rule_of_theirs, delete_a_rule,
                                    flush_the_route])
def test_what_others_take_away_is_put_back(lab, keep, tamper):
    listener = lab.server.listen(80)
    limpid = keep("--tcp", "80", "--fail", "closed")
    installed = rules_and_tables(lab)
    connection = lab.dial(listener)
    for round_number in range(1, ROUNDS + 1):
        time.sleep(QUICK)
        started = time.monotonic()
        tamper(lab)
        wait_until(lambda: limpid.counters()["rules_repaired"] == round_number, "it is repaired", 5)
        assert time.monotonic() - started < 4, "within a second, and more for a busy machine"
        assert kernel_state.difference(installed, rules_and_tables(lab)) == [], "no more and no less than before"
    exchange(connection.client, connection.server)
    assert_intercepted(lab, listener)
    assert limpid.messages.count("putting them back") == ROUNDS
    assert limpid.stop() == DONE


SQUAT = """import signal, socket
lock = socket.socket(socket.AF_UNIX)
lock.bind("\\0limpid/planning")
lock.listen(1)
print("held", flush=True)
signal.pause()
"""


def become_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_user_who_holds_our_lock_holds_up_no_repair(lab, start):
    """The locks are abstract sockets, which anybody may bind."""
    limpid = start("--tcp", "80")
    squatter = lab.router.start(["/usr/bin/python3", "-c", SQUAT], stdout=subprocess.PIPE, text=True, before_exec=become_nobody)
    assert squatter.stdout.readline() == "held\n"
    started = time.monotonic()
    delete_the_table(lab)
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired", 15)
    assert time.monotonic() - started < 4
    assert limpid.stop() == DONE
    assert time.monotonic() - started < 8, "nor the end"


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_local_tables_are_put_back_too(lab, start):
    limpid = start("--local", "--tcp", "80")
    installed = rules_and_tables(lab)
    lab.router.run("nft", "delete", "table", "ip", "limpid")
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired")
    assert kernel_state.difference(installed, rules_and_tables(lab)) == []


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_under_load(lab, keep, echo):
    echo(80)
    limpid = keep("--tcp", "80")
    calls = []
    failures = []
    ended = threading.Event()

    def call():
        while not ended.is_set():
            try:
                client = lab.client.connect(lab.server.address, 80, timeout=3)
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                client.close()
                calls.append(client)
            except (OSError, AssertionError) as error:
                failures.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    for round_number in range(1, ROUNDS + 1):
        time.sleep(QUICK)
        flush_ruleset(lab)
        wait_until(lambda: limpid.counters()["rules_repaired"] == round_number, "it is repaired")
    ended.set()
    caller.join()
    # In the moment without rules, a connection that is open loses its packets to the server, which knows nothing of it and resets it.
    assert len(failures) <= ROUNDS, failures
    assert len(calls) > ROUNDS
    assert limpid.counters()["rules_repaired"] == ROUNDS


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_changes_of_others_own_rules_are_none_of_our_business(lab, keep):
    limpid = keep("--tcp", "80")
    lab.router.nft("table inet theirs { chain a { type filter hook forward priority 0; accept; }; }")
    lab.router.run("nft", "delete", "table", "inet", "theirs")
    lab.router.run("ip", "rule", "add", "priority", "200", "lookup", "main")
    lab.router.run("ip", "rule", "del", "priority", "200")
    time.sleep(0.6)
    counters = limpid.counters()
    assert (counters["rules_changed"], counters["rules_repaired"]) == (0, 0)


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_off_means_that_it_only_reports(lab, keep):
    limpid = keep("--tcp", "80", "--repair", "off")
    installed = rules_and_tables(lab)
    table = lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    delete_the_table(lab)
    wait_until(lambda: "left so (--repair off)" in limpid.messages, "it says so")
    assert "missing: nft table inet limpid" in limpid.messages
    lab.router.nft("add table inet unrelated\ndelete table inet unrelated\n")
    assert "limpid" not in lab.router.run("nft", "list", "tables").stdout
    lab.router.nft(table)
    wait_until(lambda: "as they should be again" in limpid.messages, "whoever is in charge has mended it")
    assert kernel_state.difference(installed, rules_and_tables(lab)) == []
    counters = limpid.counters()
    assert (counters["rules_changed"], counters["rules_repaired"]) == (1, 0)


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_who_fights_back_wins_loudly(lab, keep):
    limpid = keep("--tcp", "80")
    fighter = lab.router.start(["sh", "-c", "while :; do nft delete table inet limpid 2>/dev/null; done"])
    wait_until(lambda: "again and again" in limpid.messages, "it gives up", 20)
    repairs = int(re.search(r"repairs=(\d+)", limpid.messages.split("again and again")[1]).group(1))
    assert repairs < 40
    fighter.kill()
    fighter.wait()
    assert limpid.process.poll() is None, "it goes on serving"
    assert limpid.stop() == DONE


@pytest.mark.nftables("who tampers uses nft; test_iptables.py has the like")
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_table_of_theirs_in_our_place_stays(lab, start):
    limpid = start("--tcp", "80")
    lab.router.nft("delete table inet limpid\ntable inet limpid { chain theirs { accept; }; }\n")
    wait_until(lambda: "could not put the rules back" in limpid.messages, "it says so")
    assert "chain theirs" in lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    lab.router.run("nft", "delete", "table", "inet", "limpid")
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is put back as soon as the place is free")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_an_unknown_mode(lab, launch):
    limpid = launch("--tcp", "80", "--repair", "maybe")
    assert limpid.process.wait(10) == USAGE
    assert "--repair maybe" in limpid.messages


def test_forwarding_that_others_switch_off_is_put_back(lab, keep):
    key = {"ipv4": "net.ipv4.ip_forward", "ipv6": "net.ipv6.conf.all.forwarding"}[lab.family]
    lab.router.run("sysctl", "-qw", f"{key}=0")
    limpid = keep("--tcp", "80", "--enable-forwarding")
    lab.router.run("sysctl", "-qw", f"{key}=0")
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired")
    assert lab.router.run("sysctl", "-n", key).stdout == "1\n"
    assert limpid.stop() == DONE
    assert lab.router.run("sysctl", "-n", key).stdout == "0\n", "and put back as it was at the end"


def test_a_rule_of_theirs_before_ours_is_named(lab, keep):
    """Nothing of ours is missing, so there is nothing to put back; only the operator knows what that rule is for."""
    limpid = keep("--tcp", "80")
    lab.router.run("ip", flag(lab), "rule", "add", "priority", "50", "lookup", "main")
    lab.router.run("ip", flag(lab), "rule", "add", "priority", "100", "from", "all", "lookup", "main")
    wait_until(lambda: limpid.messages.count("comes before our rule at priority 101") == 2, "it says so")
    lab.router.run("ip", flag(lab), "rule", "add", "priority", "51", "fwmark", "0x10", "lookup", "main")
    lab.router.run("ip", flag(lab), "rule", "del", "priority", "51")
    assert limpid.counters()["rules_repaired"] == 0
    delete_a_rule(lab)
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "ours is put back, once")
    assert limpid.messages.count("comes before our rule") == 2, "once for each"
    lab.router.run("ip", flag(lab), "rule", "del", "priority", "50")
    lab.router.run("ip", flag(lab), "rule", "del", "priority", "100", "from", "all", "lookup", "main")
    assert limpid.counters()["rules_repaired"] == 1
