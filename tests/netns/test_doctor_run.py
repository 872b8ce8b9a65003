"""What can be wrong with a `limpid run` itself, while its rules and its listener are as they should be: `limpid doctor` says so."""

import contextlib
import ctypes
import os
import signal

import pytest

import limpid_process
from cut_flows import dial_cut
from peers import exchange, wait_until
from process_rights import status_of

pytestmark = [pytest.mark.parametrize("family", ["ipv4"], indirect=True),
              pytest.mark.nftables("about processes, and what tells that the rules have gone with them")]

WAIT_FOR_ALL = 0x40000000  # __WALL, waitpid(2): threads, too


@contextlib.contextmanager
def stopped(limpid):
    os.kill(limpid.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: status_of(limpid.pid)["State"].startswith("T"), "it is stopped")
        yield
    finally:
        os.kill(limpid.pid, signal.SIGCONT)


@contextlib.contextmanager
def held(pid):
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    attach, detach = 16, 17  # sys/ptrace.h
    threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    for thread in threads:
        assert ptrace(attach, thread, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(thread, WAIT_FOR_ALL)
    try:
        yield
    finally:
        for thread in threads:
            ptrace(detach, thread, None, None)


def test_a_keeper_that_was_killed_and_that_nobody_waited_for(lab, doctor, start):
    limpid = start("--tcp", "80")
    keeper = limpid.children()["limpid-rules"]
    assert doctor("--only", "processes", "--no-probe").of("processes", "ok")
    with stopped(limpid):  # so that it does not wait for its child
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: status_of(keeper)["State"].startswith("Z"), "it has ended")
        assert "keeps the rules has ended" in doctor("--only", "processes", "--no-probe").only("processes", "failure")["summary"]
    assert limpid.stop() == limpid_process.FAILURE, "its rules stay"
    lab.router.run(limpid_process.BINARY, "rules", "remove")


def test_cut_through_programs_that_outlived_rules_and_process(lab, doctor, start):
    if not limpid_process.has_ebpf():
        pytest.skip("built without eBPF")
    limpid = start("--tcp", "80", "--cut-through", "always")
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    doctor.content("--no-probe")
    os.kill(limpid.pid, signal.SIGKILL)  # the one that relays: the other one takes the rules away then
    limpid.process.wait()
    wait_until(lambda: "table inet limpid" not in lab.router.run("nft", "list", "tables").stdout, "its rules are gone")
    left = doctor("--no-probe").only("left-over", "warning")
    assert left["subject"] == "limpid" and "cut-through" in left["summary"]
    exchange(connection.client, connection.server)
    doctor.paste(left)
    doctor.content("--no-probe")


def test_the_descriptors_of_the_process_that_relays(doctor, start):
    start("--tcp", "80", wrapper=("prlimit", "--nofile=200:200"))
    found = doctor("--only", "limits", "--no-probe").only("descriptors", "warning")
    assert found["subject"] == "limpid" and "may have 200 only" in found["summary"]


def test_a_process_that_is_stopped(doctor, start):
    limpid = start("--udp", "53")
    with stopped(limpid):
        report = doctor()
        for found in (report.only("processes", "failure"), report.only("probe-listener", "failure")):
            assert "is stopped" in found["summary"] and found["remedy"][0] == f"kill -CONT {limpid.pid}"
        doctor.paste(report.only("processes", "failure"))
        doctor.content()


def test_a_process_that_is_stuck(doctor, start):
    """Every thread is held by a debugger, so that it does not say that it is stopped."""
    limpid = start("--tcp", "80")
    with held(limpid.pid):
        found = doctor("--only", "probe-listener").only("probe-listener", "failure")
        assert "has not accepted it" in found["summary"] and found["subject"] == "TCP over IPv4, TCP over IPv6"
    doctor.content("--only", "probe")
