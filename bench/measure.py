# What is measured: each measurement is a way to make traffic, and what it yields. Whatever is needed to trust a sample (CPU, steal, whether
# the proxy was in the path) is observed around it.
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import time

import contenders

TICK = os.sysconf("SC_CLK_TCK")
FILE_BYTES = 32 << 20
COUNTER = """
table inet bench_path {
  counter forwarded { }
  chain forward { type filter hook forward priority 300; counter name forwarded; }
}
"""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """`take(bench, seconds)` returns a dict with "figure"; `unit_per_second` turns the figure into the work that CPU time is divided by."""

    name: str
    unit: str
    traffic: str
    take: object
    more_is_better: bool = True
    work: str = ""  # of what CPU seconds are told: "GB", "thousand requests"; empty: not told
    work_per_figure: float = 1  # work done in a second, for a figure of 1


def bulk(bench, seconds, streams, download):
    """Gbit/s at the receiver, by iperf3."""
    flags = ["-c", bench.lab.server_ipv4, "-t", str(seconds), "-P", str(streams), "-J"] + (["-R"] if download else [])
    report = json.loads(bench.lab.output("client", "iperf3", *flags))
    return {"figure": report["end"]["sum_received"]["bits_per_second"] / 1e9}


def _milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def wrk(bench, seconds, *flags):
    text = bench.lab.output("client", "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", *flags, f"http://{bench.lab.server_ipv4}/")
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    # wrk counts the close after each answer as a read error when it does not expect it; other kinds are real.
    if failed and (int(failed[1]) or int(failed[3])):
        raise RuntimeError(f"wrk saw {failed[0]}")
    if "Non-2xx" in text:
        raise RuntimeError(f"wrk got errors for answers: {text}")
    percentiles = {name: _milliseconds(value) for name, value in re.findall(r"^\s+(50|99)%\s+(\S+)$", text, re.MULTILINE)}
    return {"figure": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]) / 1000,
            "latency_p50_ms": percentiles["50"], "latency_p99_ms": percentiles["99"]}


def udp(bench, seconds, size):
    """Echoed datagrams a second, in thousands: 8 clients with 32 under way each. What is lost is told beside it."""
    text = bench.lab.output("client", bench.udp_exchange, "load", bench.lab.server_ipv4, contenders.UDP_PORT, str(seconds), str(size), "8", "32")
    report = json.loads(text)
    if report["wrong"]:
        raise RuntimeError(f"{report['wrong']} datagrams came back with another size")
    return {"figure": report["answers_per_second"] / 1000, "lost": report["lost"]}


def private_kib(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", rollup, re.MULTILINE))
    return total


def slab_kib():
    return int(re.search(r"^Slab:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)[1])


# What a proxy touches once, whatever comes after, is not what a connection costs.
AT_FIRST = 100


def idle(bench, _seconds):
    """KiB of the proxy's own memory, and of the kernel's slab on the whole machine, for each connection that does nothing."""
    connections = 4000

    def hold(count):
        return bench.lab.spawn("client", str(pathlib.Path(__file__).with_name("hold_connections.py")), bench.lab.server_ipv4, "80", str(count),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    hold(AT_FIRST).communicate(timeout=60)
    before, slab = private_kib(bench.contender.pids()), slab_kib()
    holder = hold(connections)
    try:
        failed = holder.stdout.readline()
        if not failed:
            raise RuntimeError("the connections could not be opened")
        # Each is a process' business now; what is still being set up would count twice.
        time.sleep(0.5)
        user = private_kib(bench.contender.pids()) - before
        kernel = slab_kib() - slab
    finally:
        holder.stdin.close()
        holder.wait(60)
    return {"figure": max(user, 0) / connections, "slab_kib": kernel / connections, "failed": int(failed)}


MEASUREMENTS = (
    Measurement("bulk up, 1 stream", "Gbit/s", "tcp", lambda b, s: bulk(b, s, 1, False), work="GB", work_per_figure=0.125),
    Measurement("bulk down, 1 stream", "Gbit/s", "tcp", lambda b, s: bulk(b, s, 1, True), work="GB", work_per_figure=0.125),
    Measurement("bulk up, 8 streams", "Gbit/s", "tcp", lambda b, s: bulk(b, s, 8, False), work="GB", work_per_figure=0.125),
    Measurement("bulk down, 8 streams", "Gbit/s", "tcp", lambda b, s: bulk(b, s, 8, True), work="GB", work_per_figure=0.125),
    Measurement("keep-alive requests", "k/s", "http", wrk, work="thousand requests"),
    Measurement("connections", "k/s", "http", lambda b, s: wrk(b, s, "-H", "Connection: close"), work="thousand connections"),
    Measurement("UDP echo, 64 bytes", "k/s", "udp", lambda b, s: udp(b, s, 64), work="thousand echoes"),
    Measurement("UDP echo, 1400 bytes", "k/s", "udp", lambda b, s: udp(b, s, 1400), work="thousand echoes"),
    Measurement("memory of an idle connection", "KiB", "idle", idle, more_is_better=False),
)


def process_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def machine_seconds():
    """Busy (all but idle and waiting) and stolen seconds of all CPUs."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


# The last packets of connections that the proxy has closed already find no socket, and are forwarded. Without a proxy in the path it
# would be a hundred times as many.
STRAY_PACKETS = 500


class Path:
    """Counts what the router's forward hook sees: with a proxy in the path nearly nothing, without one everything."""

    def __init__(self, lab):
        self.lab = lab
        subprocess.run(lab.command("router", "/usr/sbin/nft", "-f", "-"), input=COUNTER.encode(), check=True)

    def forwarded_packets(self):
        text = self.lab.output("router", "/usr/sbin/nft", "-j", "list", "counter", "inet", "bench_path", "forwarded")
        return next(entry["counter"]["packets"] for entry in json.loads(text)["nftables"] if "counter" in entry)

    def check(self, contender, packets):
        if contender.relays and packets > STRAY_PACKETS:
            raise RuntimeError(f"{contender.name} was not in the path: {packets} packets were forwarded past it")
        if not contender.relays and packets < 100:
            raise RuntimeError("the traffic did not pass the router")


def prove_integrity(bench):
    """A file up and the same file down, through the contender: every byte must be as it was."""
    content = os.urandom(FILE_BYTES)
    name = "sent-and-received.bin"
    url = f"http://{bench.lab.server_ipv4}/files/{name}"
    origin = pathlib.Path(bench.directory) / "files" / name
    source = pathlib.Path(bench.directory) / "sent.bin"
    source.write_bytes(content)
    bench.lab.output("client", "curl", "-sS", "--fail", "-T", str(source), url)
    received = pathlib.Path(bench.directory) / "received.bin"
    bench.lab.output("client", "curl", "-sS", "--fail", "-o", str(received), url)
    for what, path in (("up", origin), ("down", received)):
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(content).digest():
            raise RuntimeError(f"{bench.contender.name}: bytes were changed on their way {what}")
    origin.unlink()


def observe(bench, path, measurement, seconds):
    """One measurement with everything that is needed to trust it."""
    pids = bench.contender.pids()
    packets, process, (busy, steal), began = path.forwarded_packets(), process_seconds(pids), machine_seconds(), time.monotonic()
    sample = measurement.take(bench, seconds)
    path.check(bench.contender, path.forwarded_packets() - packets)
    lasted = time.monotonic() - began
    busy_after, steal_after = machine_seconds()
    cpu = process_seconds(pids) - process
    sample |= {"process_cpu": cpu / lasted, "machine_cpu": (busy_after - busy) / lasted, "steal": (steal_after - steal) / lasted}
    if measurement.work and sample["figure"]:
        work = sample["figure"] * measurement.work_per_figure * seconds
        sample |= {"process_seconds_per_work": cpu / work, "machine_seconds_per_work": (busy_after - busy) / work}
    return sample
