"""What can be wrong with a `limpid run` itself, while its rules and its listener are as they should be: `limpid doctor` says so."""

import contextlib
import os
import signal

import pytest

import limpid_process
from peers import wait_until
from process_rights import status_of

pytestmark = pytest.mark.parametrize("family", ["ipv4"], indirect=True)


@contextlib.contextmanager
def stopped(limpid):
    os.kill(limpid.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: status_of(limpid.pid)["State"].startswith("T"), "it is stopped")
        yield
    finally:
        os.kill(limpid.pid, signal.SIGCONT)


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
