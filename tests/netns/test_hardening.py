"""What an attacker, a hurried operator or a neighbour on the same host can do, and what must not come of it."""

import os
import pty
import signal
import socket
import subprocess
import time

import pytest

import limpid_process
from kernel_state import installed, snapshot
from peers import Background, read_exactly, read_to_end, wait_until

PORT = 80


def relayed_pair(lab, start, *flags):
    listener = lab.server.listen(PORT)
    limpid = start("--tcp", PORT, *flags)
    connection = lab.dial_relayed(listener)
    return limpid, connection.client, connection.server


@pytest.mark.parametrize("before", [0, 3, 8 << 20])
def test_urgent_data_loses_and_delays_nothing(lab, start, before):
    _limpid, client, server = relayed_pair(lab, start)
    sink = Background(read_to_end, server)
    head, tail = os.urandom(before), os.urandom(1 << 20)
    client.sendall(head)
    client.send(b"!", socket.MSG_OOB)
    client.sendall(tail)
    client.shutdown(socket.SHUT_WR)
    assert sink.result() == head + b"!" + tail


def test_bytes_behind_urgent_data_arrive_at_once(lab, start):
    _limpid, client, server = relayed_pair(lab, start)
    for _ in range(20):
        client.sendall(b"abc")
        client.send(b"X", socket.MSG_OOB)
        client.sendall(b"def")
        server.settimeout(2)
        assert read_exactly(server, 7) == b"abcXdef"


def read_slowly(connection):
    """To the end, at about half a megabyte a second; returns how much came."""
    total = 0
    while piece := connection.recv(16384):
        total += len(piece)
        time.sleep(0.03)  # the slowness itself, not a wait for something
    return total


def test_a_stop_waits_for_what_the_kernel_still_has_to_send(lab, start):
    limpid, client, server = relayed_pair(lab, start, "--drain-timeout", "30s")
    size = 1_500_000
    client.shutdown(socket.SHUT_WR)
    reader = Background(read_slowly, client)
    server.sendall(bytes(size))
    server.close()
    limpid.process.send_signal(signal.SIGTERM)
    assert reader.result() == size
    assert limpid.process.wait(20) == 0


def confirm_on_a_terminal(lab, launch, seconds):
    """`run --confirm` with a controlling terminal of its own; returns the instance and the terminal's other end."""
    master, slave = pty.openpty()

    def take_terminal():
        os.setsid()
        import fcntl  # pylint: disable=import-outside-toplevel
        import termios  # pylint: disable=import-outside-toplevel
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    limpid = launch("--tcp", PORT, "--confirm", seconds, stdin=slave, before_exec=take_terminal)
    os.close(slave)
    return limpid, master


def test_asking_for_counters_confirms_nothing(lab, launch):
    limpid, master = confirm_on_a_terminal(lab, launch, 3)
    limpid.ready()
    limpid.process.send_signal(signal.SIGUSR1)
    assert limpid.process.wait(15) == 1
    assert "not confirmed" in limpid.messages
    os.close(master)
    assert installed(lab.router) == []


def test_a_key_press_does_not_stop_a_gateway(lab, start):
    limpid, client, server = relayed_pair(lab, start)
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        limpid.process.send_signal(number)
    client.sendall(b"x")
    assert read_exactly(server, 1) == b"x"
    with open(f"/proc/{limpid.pid}/stat", encoding="ascii") as file:
        assert file.read().rpartition(")")[2].split()[0] != "T"


def test_a_standard_descriptor_that_is_closed_is_not_given_to_a_client(lab, launch):
    listener = lab.server.listen(PORT)
    limpid = launch("--tcp", PORT, wrapper=("/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    wait_until(lambda: installed(lab.router), "it intercepts")
    wait_until(lambda: not limpid.process.poll() and any("tproxy" in rules.lower() or "tcx ingress wan" in rules
                                                         for rules in snapshot(lab.router).values()), "the rules")
    client = lab.client.connect(lab.server.address, PORT)
    server, _ = listener.accept()
    limpid.process.send_signal(signal.SIGUSR1)
    server.sendall(b"only this")
    assert read_exactly(client, 9) == b"only this"
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(1)


@pytest.mark.nftables("its table")
def test_a_table_that_somebody_put_in_place_of_ours_is_left_alone(lab, start):
    limpid = start("--tcp", PORT)
    lab.router.nft('flush ruleset\nadd table inet limpid { comment "mine"; }\n')
    assert limpid.stop() == 1
    assert 'comment "mine"' in lab.router.run("nft", "list", "ruleset").stdout
    lab.router.nft("delete table inet limpid\n")


def test_a_policy_rule_before_ours_is_named(lab, start):
    lab.router.run("ip", "-4" if lab.family == "ipv4" else "-6", "rule", "add", "priority", "1", "lookup", "main")
    limpid = start("--tcp", PORT)
    assert "comes before our rule at" in limpid.messages


def test_another_mark_after_a_crash_leaves_no_old_rules(lab, start):
    first = start("--tcp", PORT, "--mark", "0x10/0x30")
    first.kill()
    second = start("--tcp", PORT, "--mark", "0x100/0x300")
    assert "0x10/0x30" not in lab.router.run("ip", "rule").stdout
    assert second.stop() == 0
    assert installed(lab.router) == []


def test_forwarding_stays_on_until_the_last_instance_that_wanted_it(lab, start):
    lab.router.sysctl("net/ipv4/conf/all/forwarding", 0)
    first = start("--tcp", 81, "--name", "first", "--enable-forwarding")
    second = start("--tcp", 82, "--name", "second", "--enable-forwarding")

    def forwarding():
        return lab.router.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip()

    assert first.stop() == 0
    assert forwarding() == "1"
    assert second.stop() == 0
    assert forwarding() == "0"


def test_a_squatted_lock_does_not_keep_an_operator_from_removing(lab, start):
    limpid = start("--tcp", PORT, "--fail", "closed")
    limpid.kill()
    with lab.router.inside():
        squatter = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        squatter.bind("\0limpid/planning")
    try:
        done = lab.router.run(limpid_process.BINARY, "rules", "remove", timeout=30)
        assert "warning" in done.stderr
    finally:
        squatter.close()
    assert installed(lab.router) == []


def test_instances_that_come_and_go_do_not_take_each_others_rules(lab, start):
    for number in range(5):
        old = start("--tcp", 81, "--name", "old")
        old.process.send_signal(signal.SIGTERM)
        new = start("--tcp", 82, "--name", "new")
        assert old.process.wait(20) == 0
        rules = lab.router.run("ip", "-4" if lab.family == "ipv4" else "-6", "rule").stdout
        assert rules.count("proto 76") == 3, f"round {number}: {rules}"
        assert new.stop() == 0


def test_a_fail_closed_scope_does_not_lose_a_family_silently(lab, launch):
    lab.router.sysctl("net/ipv6/conf/lo/disable_ipv6", 1)
    limpid = launch("--tcp", PORT, "--fail", "closed")
    assert limpid.process.wait(10) == 3
    assert "--ipv4-only" in limpid.messages


def test_a_target_on_this_host_is_dialled_from_this_host(lab, start):
    lab.router.listen(8080)
    target = f"[{lab.router.address}]:8080" if lab.family == "ipv6" else f"{lab.router.address}:8080"
    limpid = start("--tcp", PORT, "--target", target)
    assert "the target is on this host" in limpid.messages
    client = lab.client.connect(lab.server.address, PORT)
    client.shutdown(socket.SHUT_WR)
    client.close()


def test_an_interrupt_at_start_leaves_nothing(lab, launch):
    for delay in range(0, 100, 10):
        limpid = launch("--tcp", PORT, "--fail", "closed", before_exec=os.setsid, stdout=subprocess.DEVNULL)
        try:
            limpid.process.wait(delay / 1000)
        except subprocess.TimeoutExpired:
            pass
        os.killpg(limpid.pid, signal.SIGINT)
        limpid.process.wait(20)
        assert installed(lab.router) == [], f"interrupted after {delay} ms: {limpid.messages}"
