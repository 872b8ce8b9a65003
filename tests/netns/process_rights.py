"""What a process may do, as /proc tells it."""

from pathlib import Path

# linux/capability.h
DAC_READ_SEARCH, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF = 2, 10, 12, 13, 19, 21, 38, 39


def status_of(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def capabilities(pid, kind="CapEff"):
    bits = int(status_of(pid)[kind], 16)
    return {number for number in range(64) if bits >> number & 1}
