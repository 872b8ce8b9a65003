"""A running `limpid run`, `limpid relay` or `limpid rules watch`, and the one-shot verbs. Reads what it says: messages on stderr, one access log line a flow on stdout."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import time

from peers import wait_until

BINARY = os.environ.get("LIMPID", "")
# What intercepts in `limpid run`: nftables, iptables-nft, iptables-legacy or ebpf.
BACKEND = os.environ.get("LIMPID_TEST_BACKEND", "nftables")

# Seconds without a heartbeat after which iptables' rules take nobody to listen.
HEART_PATIENCE = {"open": 1.1, "closed": 2.1}

_FIELD = r'([a-z_][a-z0-9_]*)=("(?:[^"\\\x00-\x1f\x7f]|\\.)*"|[^\s"=\x00-\x1f\x7f]*)'
_LINE = re.compile(f"{_FIELD}(?: {_FIELD})*")
_SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:")

# Documented in limpid(1).
DONE, FAILURE, USAGE, UNSUPPORTED = 0, 1, 2, 3


def has_sanitizer_report(messages):
    return _SANITIZER.search(messages) is not None


def with_backend(verb, arguments):
    """The arguments with the backend under test, unless they name one or the verb has none."""
    takes_one = verb in ("run", "rules watch", "rules apply", "rules show", "rules diff")
    if not takes_one or BACKEND == "nftables" or "--backend" in arguments:
        return list(arguments)
    return [*arguments, "--backend", BACKEND]


def is_sanitized():
    """True for a build with a sanitizer: its memory and CPU time say nothing about Limpid."""
    with open(BINARY, "rb") as file:
        content = file.read()
    return b"__asan_init" in content or b"__tsan_init" in content


def has_ebpf():
    """False for a build without clang, bpftool or libbpf: it has the sentence that says so."""
    with open(BINARY, "rb") as file:
        return b"made without clang, bpftool or libbpf" not in file.read()


def environment_without_leak_check():
    """Where LeakSanitizer cannot read what it needs of /proc at the end (in a chroot, or a process ID namespace of its own), it would fail; everything else
    is still checked."""
    return {**os.environ, "ASAN_OPTIONS": ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "detect_leaks=0")))}


def parse_logfmt(line):
    """A line as a dict. A line that is not logfmt from start to end is a failure."""
    assert _LINE.fullmatch(line), f"not logfmt: {line!r}"
    return {key: value[1:-1] if value.startswith('"') else value for key, value in re.findall(_FIELD, line)}


def _name_of(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read().strip()
    return ""


class Limpid:
    """One instance. ready() waits until it serves; stop() asks it to end and waits."""

    def __init__(self, host, folder, arguments, wrapper=(), verb="run", **options):
        arguments = with_backend(verb, arguments)
        self._out = folder / "stdout"
        self._err = folder / "stderr"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.process = host.start([*wrapper, BINARY, *verb.split(), *arguments],
                                      **({"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err} | options))
        self._host = host
        self._backend = arguments[arguments.index("--backend") + 1] if "--backend" in arguments else "nftables"
        name = arguments[arguments.index("--name") + 1] if "--name" in arguments else "limpid"
        self._list = name if name == "limpid" else f"limpid_{name}"  # of xt_recent
        self._json = "json" in arguments
        self._serves = {"run": "intercepting", "relay": "relaying", "rules watch": "watching the rules"}[verb]

    @property
    def pid(self):
        return self.process.pid

    @property
    def messages(self):
        """What it said so far, complete lines only."""
        text = self._err.read_text(errors="replace")
        return text[:text.rfind("\n") + 1]

    @property
    def log(self):
        """The access log's lines so far, complete ones only."""
        return self._out.read_text(errors="strict").split("\n")[:-1]

    def ready(self, seconds=10):
        wait_until(lambda: self._serves in self.messages or self.process.poll() is not None, "it serves", seconds)
        assert self.process.poll() is None, f"ended with status {self.process.returncode}:\n{self.messages}"
        return self

    def flows(self, count=1):
        """The first `count` flows of the access log, waited for, as dicts."""
        lines = wait_until(lambda: len(self.log) >= count and self.log, f"{count} lines in the access log")
        return [json.loads(line) if self._json else parse_logfmt(line) for line in lines]

    def flow(self):
        """The only flow of the access log."""
        flows = self.flows(1)
        assert len(flows) == 1, flows
        return flows[0]

    def counters(self):
        """Asks for them with SIGUSR1."""
        def lines():
            return [line for line in self.messages.splitlines() if "counters" in line and ("flows_total" in line or "rules_changed" in line)]

        before = len(lines())
        self.process.send_signal(signal.SIGUSR1)
        line = wait_until(lambda: len(lines()) > before and lines()[-1], "the counters")
        fields = json.loads(line) if self._json else parse_logfmt(line)
        return {key: int(value) for key, value in fields.items() if str(value).isdigit()}

    def counters_with(self, **expected):
        """All of them, as soon as those named have these values: a peer may hear of an event before the worker has counted it."""
        return wait_until(lambda: (seen := self.counters()).items() >= expected.items() and seen, f"the counters say {expected}")

    def stop(self, signal_number=signal.SIGTERM, seconds=20):
        """Exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(seconds)

    def children(self):
        """By name: "limpid-rules" is the one that keeps the rules."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
            pids = [int(pid) for pid in file.read().split()]
        return {_name_of(pid): pid for pid in pids}

    def kill(self):
        """SIGKILL to all of it at once, as a supervisor or a machine short of memory does it: what the kernel does by itself then. One that only loses the process that
        relays has the other, which keeps the rules (test_least_privilege.py). Returns when the process is gone, with its sockets closed, and the kernel has noticed that nobody listens: at once with
        nftables; with an iptables when the last heartbeat is old enough (docs/backends.md), which is made so here instead of waited for.
        test_within_its_patience_the_kernel_notices_that_nobody_listens waits."""
        with contextlib.suppress(FileNotFoundError, KeyError, ProcessLookupError):
            os.kill(self.children()["limpid-rules"], signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        if self._serves == "intercepting" and self._backend.startswith("iptables"):
            # Without its rules there is no list.
            with contextlib.suppress(FileNotFoundError), self._host.inside(), open(f"/proc/thread-self/net/xt_recent/{self._list}", "w", encoding="ascii") as heartbeats:
                heartbeats.write("/\n")

    def descriptors(self):
        """How many are open, once that stays so: the last ones of the start come after it has said that it serves."""
        def settled():
            count = len(os.listdir(f"/proc/{self.pid}/fd"))
            time.sleep(0.02)
            return count if count == len(os.listdir(f"/proc/{self.pid}/fd")) else None
        return wait_until(settled, "its descriptors settle")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sanitizer_report(self):
        return self.messages if _SANITIZER.search(self.messages) else ""
