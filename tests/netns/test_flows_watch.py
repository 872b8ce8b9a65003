"""limpid flows --watch: lists behind each other, on a terminal over each other, and their end."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios

import pytest

import limpid_process
from control_client import verb
from peers import wait_until

pytestmark = pytest.mark.parametrize("family", ["ipv4"], indirect=True)


def test_lists_follow_each_other_and_end_when_they_are_done(lab, start):
    limpid = start("--tcp", "80")
    flow = lab.dial_relayed(lab.server.listen(80))
    client = "{}:{}".format(*flow.client.getsockname())
    watched = verb(lab, "flows", "--watch", "--interval", "100ms", "--count", "3")
    assert watched.returncode == limpid_process.DONE, watched.stderr
    lists = watched.stdout.split("\n\n")
    assert len(lists) == 3 and "\x1b" not in watched.stdout
    for each in lists:
        time, head, line = each.rstrip("\n").splitlines()
        assert time.endswith("1 flows") and head.startswith("ID") and client in line
    lines = verb(lab, "flows", "--watch", "--json", "--sort", "bytes", "--interval", "100ms", "--count", "2").stdout.splitlines()
    assert [json.loads(line)["flows"][0]["client"] for line in lines] == [client] * 2
    for wrong in (("--interval", "1s"), ("--count", "2"), ("--watch", "--interval", "1ms"), ("--watch", "--count", "0"), ("--watch", "--limit", "0")):
        refused = verb(lab, "flows", *wrong)
        assert refused.returncode == limpid_process.USAGE and refused.stderr.startswith("limpid: "), (wrong, refused)

    # It ends with the instance, and with whoever reads it.
    with subprocess.Popen([limpid_process.BINARY, "flows", "--watch", "--interval", "100ms"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert client in "".join(watch.stdout.readline() for _ in range(3))
        limpid.stop()
        _, problem = watch.communicate(timeout=10)
        assert watch.returncode == limpid_process.FAILURE and "does not run" in problem
    start("--tcp", "80")
    with subprocess.Popen([limpid_process.BINARY, "flows", "--watch", "--interval", "100ms"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unread:
        unread.stdout.close()
        assert unread.wait(10) in (limpid_process.DONE, -signal.SIGPIPE)


def test_on_a_terminal_each_list_takes_the_place_of_the_last_one(lab, start):
    start("--tcp", "80")
    listener = lab.server.listen(80)
    flows = [lab.dial_relayed(listener) for _ in range(3)]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 60, 0, 0))
    watch = subprocess.Popen([limpid_process.BINARY, "flows", "--watch", "--interval", "100ms"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = bytearray()

    def three_lists():
        if select.select([ours], [], [], 0)[0]:
            seen.extend(os.read(ours, 65536))
        return seen.count(b"\x1b[H\x1b[J") > 3

    wait_until(three_lists, "three lists")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == -signal.SIGINT
    os.close(ours)
    screens = seen.decode().split("\x1b[H\x1b[J")[1:4]
    for screen in screens:
        lines = screen.replace("\r", "").rstrip("\n").split("\n")
        # Five lines of sixty columns: time, head, two flows, and the cursor's.
        assert len(lines) == 4 and all(len(line) <= 60 for line in lines), lines
        assert lines[0].endswith("2 flows, and there are more")
    assert len(flows) == 3
