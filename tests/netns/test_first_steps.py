"""Trying it without risk: --dry-run, and --confirm for people whose own connection might be cut."""

import fcntl
import os
import pty
import termios
import time

import pytest

import limpid_process
from kernel_state import difference, installed, snapshot
from limpid_process import DONE, FAILURE, USAGE
from peers import exchange, wait_until


def test_a_dry_run_changes_nothing(lab):
    before = snapshot(lab.router)
    done = lab.router.run(limpid_process.BINARY, "run", "--tcp", "80", "--dry-run")
    assert "tproxy" in done.stdout
    assert difference(before, snapshot(lab.router)) == []


def test_a_dry_run_finds_what_is_wrong(lab):
    lab.router.run("ip", "route", "add", "10.9.0.0/16", "dev", "wan", "table", "500")
    done = lab.router.run(limpid_process.BINARY, "run", "--tcp", "80", "--dry-run", "--table", "500", check=False)
    assert done.returncode == FAILURE and "500" in done.stderr


@pytest.fixture
def terminal():
    """(our side, options for a process whose controlling terminal the other side becomes)"""
    ours, theirs = pty.openpty()

    def take_it():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    yield ours, {"stdin": theirs, "before_exec": take_it, "pass_fds": (theirs,)}
    os.close(ours)
    os.close(theirs)


def test_confirmed_in_time_it_stays(lab, launch, terminal):
    ours, options = terminal
    limpid = launch("--tcp", "80", "--confirm", "2", **options)
    limpid.ready()
    began = time.monotonic()
    assert b"yes" in os.read(ours, 1000), "it says how to confirm; what was typed before does not count"
    os.write(ours, b"yes\n")
    listener = lab.server.listen(80)
    while time.monotonic() < began + 2.5:  # past the time in which it would have rolled back
        connection = lab.dial(listener)
        assert not connection.was_forwarded
        exchange(connection.client, connection.server)
        connection.client.close()
        connection.server.close()
    assert limpid.process.poll() is None
    assert limpid.stop() == DONE


def test_not_confirmed_it_rolls_back(lab, launch, terminal):
    ours, options = terminal
    before = snapshot(lab.router)
    limpid = launch("--tcp", "80", "--confirm", "1", **options).ready()
    assert b"yes" in os.read(ours, 1000)
    os.write(ours, b"\nno\n")
    wait_until(lambda: limpid.process.poll() is not None, "it gives up", 4)
    assert limpid.process.returncode == FAILURE
    assert difference(before, snapshot(lab.router)) == []


def test_the_terminal_hangs_up_before_confirmation(lab, launch):
    """What --confirm is for: the remote shell is gone."""
    ours, theirs = pty.openpty()
    before = snapshot(lab.router)

    def take_it():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    limpid = launch("--tcp", "80", "--confirm", "5", stdin=theirs, before_exec=take_it, pass_fds=(theirs,))
    limpid.ready()
    os.close(theirs)
    os.close(ours)
    wait_until(lambda: limpid.process.poll() is not None, "it ends", 8)
    assert difference(before, snapshot(lab.router)) == []


def test_without_a_terminal_it_does_not_start(lab, launch):
    before = snapshot(lab.router)
    limpid = launch("--tcp", "80", "--confirm", "2", start_new_session=True)
    assert limpid.process.wait(5) == USAGE
    assert "terminal" in limpid.messages
    assert difference(before, snapshot(lab.router)) == []
    assert installed(lab.router) == []
