"""`limpid exec`: a program under it is what it is without it, and the supervisor is nobody's business until the last process ends."""

import errno
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import limpid_process
from exec_process import prelude, python, supervisors, under_exec
from lab import SECONDS
from limpid_process import UNSUPPORTED, USAGE
from peers import wait_until

# The processes are the same for both families.
pytestmark = pytest.mark.parametrize("family", ["ipv4"], indirect=True)

BIND = prelude("ipv4") + """
def bind():
    s = socket.socket(family)
    s.bind((foreign, 0))
    s.listen()
    return s
"""
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.fixture
def world_readable():
    """A folder that other users may enter; pytest's own are for root only."""
    folder = Path(tempfile.mkdtemp(prefix="limpid-exec-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def usable_by_nobody(lab):
    if lab.router.run(*NOBODY, limpid_process.BINARY, "--version", check=False).returncode != 0:
        pytest.skip(f"other users may not run {limpid_process.BINARY}: build below a folder that they may enter")


# --- how it ends

@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_programs(lab, status):
    assert lab.router.run(*under_exec("sh", "-c", f"exit {status}"), check=False).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_a_signal_ends_the_very_process_that_was_started(lab, number):
    process = lab.router.start(under_exec(*python("print(flush=True)\nsignal = __import__('signal')\n"
                                                  "signal.signal(signal.SIGINT, signal.SIG_DFL)\nprint(flush=True)\nsignal.pause()")),
                               stdout=subprocess.PIPE)
    process.stdout.readline(), process.stdout.readline()
    process.send_signal(number)
    assert process.wait(SECONDS) == -number
    wait_until(lambda: not supervisors(lab.router), "the supervisor ends")


def test_it_stops_and_continues(lab):
    process = lab.router.start(under_exec("cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"1\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"1\n"
    process.send_signal(signal.SIGSTOP)
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED).si_status == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    process.stdin.write(b"2\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"2\n"


def test_a_program_that_is_not_there_and_one_that_cannot_run(lab, tmp_path):
    assert lab.router.run(*under_exec("limpid-no-such-program"), check=False).returncode == 127
    (tmp_path / "text").write_text("text")
    assert lab.router.run(*under_exec(tmp_path / "text"), check=False).returncode == 126
    wait_until(lambda: not supervisors(lab.router), "their supervisors end")


def test_arguments_arrive_as_they_are(lab):
    words = ["", "-l", "--", "--help", "[::1]", "[a,b]", "{}", "a b", "--transparent", "lab"]
    assert lab.router.run(*under_exec(*python("print(sys.argv[1:])", *words))).stdout.strip() == repr(words)


# --- what the program sees of it

def test_the_program_has_no_child_no_descriptor_and_no_signal_that_it_did_not_make(lab):
    script = """
import re, signal
try: os.wait()
except ChildProcessError: pass
else: sys.exit('a child')
assert not signal.sigpending(), signal.sigpending()
print(sorted(os.listdir('/proc/self/fd')), os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
print([line for line in open('/proc/self/status') if re.match('Sig[^Q]|Shd|Cap', line)])
"""
    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    processes = [lab.router.start(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, before_exec=block)
                 for argv in (python(script), under_exec(*python(script)))]
    seen = [process.communicate(timeout=SECONDS)[0].decode().replace(str(process.pid), "PID") for process in processes]
    assert seen[0] == seen[1]


def test_nobody_waits_for_the_supervisor_behind_a_pipe(lab):
    """The program leaves a daemon without its pipes; whoever reads them to the end is not held up by the supervisor."""
    script = BIND + """
if os.fork() == 0:
    null = os.open('/dev/null', os.O_RDWR)
    for fd in (0, 1, 2): os.dup2(null, fd)
    os.setsid()
    __import__('signal').pause()
"""
    process = lab.router.start(under_exec(*python(script)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.communicate(timeout=SECONDS) == (b"", b"")
    assert len(supervisors(lab.router)) == 1, "the daemon lives, and so does its supervisor"
    for pid in daemons(lab.router):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not supervisors(lab.router), "the supervisor ends with the daemon")


def daemons(host):
    wanted = os.fstat(host.namespace).st_ino
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "ns/net").stat().st_ino == wanted and \
                    "pause()" in (folder / "cmdline").read_text() and (folder / "comm").read_text() != "limpid-exec\n":
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def test_a_daemon_that_outlives_the_program_binds_as_before(lab, tmp_path):
    ready, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(ready)
    script = BIND + f"""
if os.fork() == 0:
    os.setsid()
    open({str(ready)!r}).read()
    bind()
    open({str(done)!r}, 'w').write('bound')
"""
    process = lab.router.start(under_exec(*python(script)))
    assert process.wait(SECONDS) == 0
    ready.write_text("go")
    wait_until(lambda: done.exists() and done.read_text() == "bound", "the daemon binds")
    wait_until(lambda: not supervisors(lab.router), "the supervisor ends")


def test_a_program_that_closes_every_descriptor_binds_as_before(lab, tmp_path):
    done = tmp_path / "done"
    lab.router.run(*under_exec(*python(BIND + f"os.closerange(0, 1000)\nbind()\nopen({str(done)!r}, 'w').write('bound')")))
    assert done.read_text() == "bound"


def test_signals_that_ask_to_end_do_not_take_the_supervisor(lab):
    """A service manager signals the whole control group, and the program may need sockets while it ends."""
    program = lab.router.start(under_exec(*python(BIND + "print(flush=True)\nsys.stdin.readline()\nbind()")),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    program.stdout.readline()
    for pid in supervisors(lab.router):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
    program.communicate(b"\n", timeout=SECONDS)
    assert program.returncode == 0


def test_without_its_supervisor_the_program_is_refused_and_not_blocked(lab):
    program = lab.router.start(under_exec(*python(BIND + "print(flush=True)\nsys.stdin.readline()\n"
                                                  "try: bind()\nexcept OSError as error: print(error.errno)")),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    program.stdout.readline()
    for pid in supervisors(lab.router):
        os.kill(pid, signal.SIGKILL)
    assert program.communicate(b"\n", timeout=SECONDS)[0] == b"38\n", "ENOSYS"


def test_what_cannot_be_done_is_the_calls_error_and_said_once(lab):
    """An IPv6-only socket has no place for an IPv4 source; the program sees it as its own call's error."""
    program = python("""
for _ in range(3):
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    print(s.connect_ex(('::ffff:198.51.100.2', 7000)), s.connect_ex(('::1', 7000)))
""")
    done = lab.router.run(*under_exec(*program, options=("--bind-source", "222.173.190.239")))
    assert done.stdout == f"{errno.EINVAL} {errno.ECONNREFUSED}\n" * 3
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("limpid: bind 222.173.190.239"), lines


# --- many at once

def test_threads_and_processes_bind_in_parallel(lab):
    lab.router.run(*under_exec(*python(BIND + """
import threading
def work():
    global good
    for _ in range(50): bind().close()
    with lock: good += 1
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        good, lock = 0, threading.Lock()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0 if good == 8 else 1)
    children.append(child)
for child in children: assert os.waitpid(child, 0)[1] == 0
""")), timeout=60)


def test_a_thread_with_its_own_descriptors_and_one_without_a_leader(lab):
    """unshare(CLONE_FILES) gives a thread another table; pthread_exit() in main leaves threads without their first one."""
    lab.router.run(*under_exec(*python(BIND + """
import ctypes, threading
libc = ctypes.CDLL(None, use_errno=True)
failed = []
def work():
    try:
        assert libc.unshare(0x400) == 0
        other = socket.socket(socket.AF_UNIX)
        bind()
    except BaseException as error: failed.append(error)
thread = threading.Thread(target=work)
thread.start(); thread.join()
assert not failed, failed
def last():
    while open('/proc/self/task/%d/stat' % os.getpid()).read().rsplit(')')[1].split()[0] != 'Z': pass
    try: bind()
    except BaseException: os._exit(1)
    os._exit(0)
threading.Thread(target=last).start()
libc.syscall(60, 0)
""")))


def test_signals_in_the_middle_of_a_call_are_not_noticed(lab):
    """A call that a handler interrupts is made again: no EINTR, no error, however many."""
    lab.router.run(*under_exec(*python(BIND + """
import ctypes, signal
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
for _ in range(2000): bind().close()
signal.setitimer(signal.ITIMER_REAL, 0)
assert count > 10, count
""")), timeout=60)


# --- privileges

def test_without_privilege_it_says_what_is_missing(lab):
    usable_by_nobody(lab)
    refused = lab.router.run(*NOBODY, *under_exec("true"), check=False)
    assert refused.returncode == UNSUPPORTED
    assert "CAP_NET_ADMIN" in refused.stderr and refused.stderr.count("\n") == 1


def test_one_capability_suffices(lab):
    usable_by_nobody(lab)
    lab.router.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all,+net_admin",
                   "--ambient-caps", "-all,+net_admin", *under_exec(*python(BIND + "bind()")))


def test_the_program_needs_no_privilege(lab):
    shown = lab.router.run(*under_exec(*python(BIND + "bind()\nprint(os.getuid(), os.geteuid(), os.getgroups())\n"
                                       "print([line.split()[1] for line in open('/proc/self/status') if 'CapEff' in line])"),
                                       options=("--user", "nobody"))).stdout
    assert shown.split("\n")[:2] == ["65534 65534 [65534]", "['0000000000000000']"]


def test_a_setuid_program_keeps_its_privilege_and_its_sockets(lab, world_readable):
    """Started by root, so no_new_privs is not set; its memory is not its user's to read, but the supervisor serves it."""
    copy = world_readable / "python"
    shutil.copy(os.path.realpath("/usr/bin/python3"), copy)
    copy.chmod(0o4755)
    program = [copy, "-c", "import os, socket, sys\n" + BIND + "bind()\nprint(os.getuid(), os.geteuid())"]
    shown = lab.router.run(*under_exec(*program, options=("--user", "nobody"))).stdout.strip()
    if shown == "65534 65534":
        pytest.skip(f"{world_readable} is mounted nosuid")
    assert shown == "65534 0"


def test_rootless_inside_a_lab(lab):
    usable_by_nobody(lab)
    done = lab.router.run(*NOBODY, limpid_process.BINARY, "lab", "run", "--in", "router", "--",
                          *under_exec(*python(BIND + "bind()")), check=False,
                          env=limpid_process.environment_without_leak_check())
    if done.returncode == UNSUPPORTED:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


# --- the terminal

def test_a_shells_job_control_works(lab, need):
    """^C reaches it, ^Z stops it, fg continues it in the foreground with its terminal."""
    need("bash", "bash")
    shell = Shell(lab.router)
    limpid = limpid_process.BINARY
    shell.type(f"{limpid} exec -- sh -c 'trap \"echo interrupted\" INT; echo ready; until read -r x; do :; done; echo got $x'\n")
    shell.see("ready")
    shell.type("\x03")
    shell.see("interrupted")
    shell.type("\x1a")
    shell.see("prompt> ")
    shell.type("jobs\n")
    assert "Stopped" in shell.see("prompt> ")
    shell.type("fg\n")
    shell.see("got $x")  # fg shows the command
    shell.type("word\n")
    shell.see("got word")
    shell.see("prompt> ")
    shell.type(f"{limpid} exec -- {sys.executable} -c 'import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
               "print(os.getpgrp(), os.tcgetpgrp(0)); signal.pause()'\n")
    group, foreground = shell.see("\n").split()
    assert group == foreground
    shell.type("\x03")
    shell.see("prompt> ")
    shell.type("echo status $?\n")
    shell.see("status 130")
    shell.close()


class Shell:
    """An interactive bash on a terminal of its own, without echo."""

    def __init__(self, host):
        with host.inside():
            self._pid, self._terminal = pty.fork()
            if self._pid == 0:
                os.environ["PS1"] = "prompt> "
                os.execvp("bash", ["bash", "--noprofile", "--norc", "--noediting", "-i"])
        self._unread = ""
        self.see("prompt> ")
        self.type("stty -echo\n")
        self.see("prompt> ")

    def type(self, text):
        os.write(self._terminal, text.encode())

    def see(self, word):
        """What the terminal shows up to `word`, waited for."""
        deadline = time.monotonic() + SECONDS
        while word not in self._unread:
            assert select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0], self._unread
            self._unread += os.read(self._terminal, 1000).decode()
        seen, _, self._unread = self._unread.partition(word)
        return seen

    def close(self):
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


# --- wrong uses

@pytest.mark.parametrize("arguments, word", [
    ((), "no program"),
    (("--bind-source", "example.org", "true"), "--bind-source"),
    (("--bind-source", "0.0.0.0", "true"), "--bind-source"),
    (("--bind-source", "fe80::1", "true"), "link-local"),
    (("--bind-source", "192.0.2.1", "--bind-source", "192.0.2.2", "true"), "second"),
    (("--udp", "--", "true"), "--bind-source"),
    (("--mark", "x", "true"), "--mark x: not a mark"),
    (("--mark", "0", "true"), "--mark 0: not a mark"),
    (("--mark", "", "true"), '--mark "": not a mark'),
    (("--mark", "0x1/0x3", "true"), "--mark 0x1/0x3: a socket's mark has no mask"),
    (("--bind-source", "[192.0.2.1]", "true"), "--bind-source [192.0.2.1]"),
    (("--bind-source", "[fe80::1]", "true"), "link-local"),
    (("--user", "limpid-nobody-at-all", "true"), "no user of that name"),
    (("--unknown", "--", "true"), "--unknown"),
])
def test_a_wrong_use_is_explained_in_one_line(lab, arguments, word):
    refused = lab.router.run(limpid_process.BINARY, "exec", *arguments, check=False)
    assert refused.returncode == USAGE
    assert word in refused.stderr and refused.stderr.count("\n") == 1


def test_a_supervisor_under_a_supervisor_is_refused(lab):
    refused = lab.router.run(*under_exec(*under_exec("true")), check=False)
    assert refused.returncode == UNSUPPORTED
    assert "supervisor already" in refused.stderr
