"""The access log in a real journal: systemd-journald in a mount namespace with a /run of its own, beside an instance."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from peers import wait_until

JOURNALD = "/lib/systemd/systemd-journald"
# Not a child of ours, which becomes the instance.
BESIDE_A_JOURNAL = f"""
mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal || exit 1
({JOURNALD} </dev/null >/dev/null 2>&1 & echo $! >/run/journald.pid)
for i in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
exec "$@"
"""
# The same with somebody in journald's place who reads two or three entries a second.
TRICKLE = """
import socket, time
reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reader.bind("/run/systemd/journal/socket")
while True:
    reader.recv(65536)
    time.sleep(0.4)
"""
BESIDE_A_TRICKLE = f"""
mount -t tmpfs none /run && mkdir -p /run/systemd/journal || exit 1
(/usr/bin/python3 -c '{TRICKLE}' </dev/null >/dev/null 2>&1 & echo $! >/run/journald.pid)
for i in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
exec "$@"
"""


def root_of(limpid):
    return pathlib.Path("/proc") / str(limpid.pid) / "root"


def journald_of(limpid):
    return int((root_of(limpid) / "run/journald.pid").read_text())


@pytest.fixture
def journal(lab, start, need):
    """journal(arguments…): an instance that logs there, and what the journal has of it."""
    need(JOURNALD, "systemd")
    need("journalctl", "systemd")
    pids = []

    def run(*arguments, beside=BESIDE_A_JOURNAL):
        limpid = start(*arguments, "--access-log-format", "journald", wrapper=["unshare", "--mount", "sh", "-c", beside, "sh"])
        root = root_of(limpid)
        pids.append(journald_of(limpid))

        def entries():
            said = subprocess.run(["journalctl", "-D", root / "run/log/journal", "-o", "json", "-t", "limpid", "-q"],
                                  capture_output=True, text=True, timeout=20, check=False).stdout
            return [entry for line in said.splitlines() if "LIMPID_END" in (entry := json.loads(line))]
        return limpid, entries

    yield run
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_each_flow_is_an_entry_with_fields(lab, journal):
    limpid, entries = journal("--tcp", "80")
    listener = lab.server.listen(80)
    for _ in range(3):
        connection = lab.dial_relayed(listener)
        connection.client.close()
        connection.server.close()
    wait_until(lambda: len(entries()) == 3, "three entries")
    entry = entries()[0]
    assert entry["LIMPID_END"] == "closed" and entry["LIMPID_PROTO"] == "tcp" and entry["PRIORITY"] == "6"
    assert entry["LIMPID_ORIG_DST"].endswith(":80") and entry["MESSAGE"].startswith("ts=") and "end=closed" in entry["MESSAGE"]
    assert entry["_PID"] == str(limpid.pid) and not limpid.log, "and standard output has none"


def test_without_a_journal_the_relay_goes_on(lab, journal):
    limpid, _ = journal("--tcp", "80")
    os.kill(journald_of(limpid), signal.SIGKILL)
    connection = lab.dial_relayed(lab.server.listen(80))
    connection.client.close()
    connection.server.close()
    limpid.counters_with(flows_ended=1)
    assert limpid.stop() == 0
    assert "journald did not take them lines=1" in limpid.messages.replace('"', "").replace("msg=", "")


def test_a_journal_that_trickles_does_not_hold_up_the_end(lab, journal):
    """It takes an entry now and then, so nothing ever stalls for long. What is lost at the very end is told."""
    limpid, _ = journal("--tcp", "80", beside=BESIDE_A_TRICKLE)
    listener = lab.server.listen(80)
    for _ in range(60):
        connection = lab.dial_relayed(listener)
        connection.client.close()
        connection.server.close()
    limpid.counters_with(flows_ended=60)
    began = time.monotonic()
    assert limpid.stop() == 0
    assert time.monotonic() - began < 8, "60 entries would take 24 seconds"
    lost = re.search(r"journald did not take them.* lines=([0-9]+)", limpid.messages)
    assert lost and int(lost.group(1)) >= 20, limpid.messages
