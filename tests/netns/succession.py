"""`limpid upgrade` from a test's side: the process that takes over is nobody's child, and yet has to be waited for; and programs that pretend to be one."""

import contextlib
import ctypes
import json
import os
import signal
import stat
import subprocess
import textwrap
import time
from pathlib import Path

from control_client import verb

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def adopting_orphans():
    """Processes whose parents end become children of pytest meanwhile. Successors that a test has not expected, and nobody has ended, are ended."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        _end_orphans()
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _end_orphans():
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text(encoding="ascii").split()):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"run"]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


class Orphan:
    """What subprocess.Popen is, for a process that somebody else has started and whose parent has ended."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # its parent lives still, or has waited for it itself, because it did not take over
                if not os.path.exists(f"/proc/{self.pid}"):
                    self.returncode = 1
                return self.returncode
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=20):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("limpid", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def upgrade(lab, limpid, *arguments):
    """From now on `limpid` is the successor. Returns what the instance answered, once the predecessor has ended."""
    done = verb(lab, "upgrade", "--json", *arguments)
    assert done.returncode == 0, done.stderr + limpid.messages
    answer = json.loads(done.stdout)
    return succeed(limpid, answer["pid"], answer)


def succeed(limpid, pid, answer=None):
    """The same, where the upgrade was ordered otherwise."""
    before = limpid.process
    limpid.process = Orphan(pid)  # first: whatever fails, it is ended with the test
    assert before.wait(timeout=20) == 0, limpid.messages
    return answer


def refused(lab, *arguments):
    """An upgrade that does not come about: what is said of it."""
    done = verb(lab, "upgrade", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


# Speaks the handover's first words (src/service/handover_messages.h) as far as it is told to, and then does something else.
_PRETENDER = """\
#!/usr/bin/python3
import array, os, signal, socket, struct, sys, time
MAGIC, VERSION = 0x4c504831, {version}
HELLO, READY, END, TAKEN = 16, 20, 22, 23
last, then = {last!r}, {then!r}
channel = socket.socket(fileno=int(os.environ["LIMPID_HANDOVER"]))
channel.setblocking(True)

def hear():
    data, control, _, _ = channel.recvmsg(1 << 17, socket.CMSG_SPACE(250 * 4))
    for level, kind, content in control:
        numbers = array.array("i")
        numbers.frombytes(content)
        held.extend(numbers)
    if not data or data[0] == 17:
        sys.exit(3)
    return data

held = []

def at(stage):
    if stage != last:
        return
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "hang":
        signal.pause()
    if then == "nonsense":
        channel.send(b"nonsense")
        signal.pause()
    sys.exit(1)

at("start")
channel.send(struct.pack("=BII", HELLO, MAGIC, VERSION))
at("hello")
instance = hear()
hear()
hear()
at("instance")
channel.send(bytes([READY]))
at("ready")
while (data := hear())[0] != END:
    pass
at("end")
channel.send(struct.pack("=BQQ", TAKEN, 12345, 1))
at("taken")
signal.pause()
"""


def pretend(path, last, then, version=1):
    """Puts a program in the place of Limpid's that stops speaking after `last`, and then dies, hangs, or talks nonsense."""
    replace(path, _PRETENDER.format(version=version, last=last, then=then))


def replace(path, text):
    """As a package manager does: another file of the same name."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(textwrap.dedent(text), encoding="utf-8")
    beside.chmod(0o755 | stat.S_IXUSR)
    os.replace(beside, path)
