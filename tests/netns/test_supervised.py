"""`limpid run` under a supervisor: readiness, reload, watchdog and drain, as sd_notify(3) has them. systemd does not run here; its side of the socket does."""

import contextlib
import ctypes
import os
import time
from pathlib import Path

import pytest

from control_client import Control, verb
from kernel_state import installed
from peers import exchange, wait_until
from supervisor import Supervisor

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # __WALL: also threads
BEAT = 0.4


@pytest.fixture(name="supervise")
def supervised(lab, tmp_path):
    made = []

    def supervise(**options):
        made.append(Supervisor(lab.router, tmp_path, **options))
        return made[-1]

    yield supervise
    for each in made:
        each.close()


@contextlib.contextmanager
def stuck(tid):
    """The thread does nothing as long as this lasts; the others go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4

    def ptrace(request):
        if libc.ptrace(request, tid, 0, 0) != 0:
            pytest.skip(f"ptrace(2) is not possible here: {os.strerror(ctypes.get_errno())}")

    ptrace(PTRACE_SEIZE)
    try:
        ptrace(PTRACE_INTERRUPT)
        os.waitpid(tid, WALL)
        yield
    finally:
        ptrace(PTRACE_DETACH)


def workers_of(pid):
    """Threads that wait in epoll_wait(2): the relay's."""
    tasks = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return [tid for tid in sorted(tasks) if Path(f"/proc/{pid}/task/{tid}/wchan").read_text() in ("ep_poll", "do_epoll_wait")]


def test_ready_reload_drain_and_end(lab, start, configure, supervise):
    # Each kind of socket with one family: they have nothing to do with each other.
    supervisor = supervise(abstract=lab.family == "ipv6")
    file = configure(tcp=[80], udp=[53])
    limpid = start("-c", file, "--drain-timeout", "30", env={**os.environ, **supervisor.environment})
    ready = supervisor.await_message("READY")
    assert (ready["READY"], ready["STATUS"]) == ("1", "Intercepting TCP 80 and UDP 53")
    assert installed(lab.router) != [], "ready means in force"
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)

    for wrong in (False, True):
        configure(tcp=[80, 443], udp=[53], rules=["nonsense\tof \u00fcber"] if wrong else [])
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert verb(lab, "reload").returncode == (1 if wrong else 0)
        reloading = supervisor.await_message("RELOADING")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(reloading["MONOTONIC_USEC"]) <= after and reloading["RELOADING"] == "1"
        ready = supervisor.await_message("READY")
        assert ready["STATUS"].startswith("Intercepting TCP 80,443 and UDP 53" + ("; not reloaded: " if wrong else "")), ready
        assert len(ready["STATUS"].encode()) <= 256

    limpid.process.terminate()
    assert supervisor.await_message("STOPPING")["STOPPING"] == "1"
    # More than one: the drain goes on, and the supervisor must not lose patience.
    for _ in range(2):
        extended = supervisor.await_message("EXTEND_TIMEOUT_USEC")
        assert int(extended["EXTEND_TIMEOUT_USEC"]) >= 10_000_000 and extended["STATUS"] == "Draining: 1 TCP flow is open"
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.process.wait(15) == 0, limpid.messages


def test_the_watchdog_waits_for_a_stuck_worker(lab, start, supervise):
    supervisor = supervise(abstract=False, watchdog=BEAT)
    limpid = start("--tcp", "80", "--workers", "2", env={**os.environ, **supervisor.environment})
    supervisor.await_message("READY")
    for _ in range(2):
        supervisor.await_message("WATCHDOG")
    workers = wait_until(lambda: len(found := workers_of(limpid.pid)) == 2 and found, "both workers wait for events")
    with stuck(workers[1]):
        # One may have been under way. The rest of the program lives, and yet there is none.
        assert supervisor.beats(5 * BEAT) <= 1
        assert Control().get("/v1/status")["state"] == "serving"
        assert supervisor.receive(BEAT) is None
    supervisor.await_message("WATCHDOG")
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("variable, value", [("NOTIFY_SOCKET", "/nowhere/at/all"), ("NOTIFY_SOCKET", "vsock:2:1"), ("NOTIFY_SOCKET", "@" + "x" * 200),
                                             ("WATCHDOG_USEC", "18446744073709551616"), ("WATCHDOG_PID", "1")])
def test_a_supervisor_that_makes_no_sense_stops_nobody(lab, start, supervise, variable, value):
    supervisor = supervise(abstract=False, watchdog=BEAT)
    limpid = start("--tcp", "80", env={**os.environ, **supervisor.environment, variable: value})
    if variable == "NOTIFY_SOCKET":
        assert ("the supervisor cannot be told" in limpid.messages) == (not value.startswith("/"))
    else:
        supervisor.await_message("READY")
        assert supervisor.beats(2 * BEAT) == 0, "this watchdog is not for us"
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
