# The measurements: each takes the lab and returns one figure; CPU and path are observed around it.
import contextlib
import json
import os
import pathlib
import re
import subprocess

TICK = os.sysconf("SC_CLK_TCK")
COUNTER = """
table inet bench_path {
  counter forwarded { }
  chain forward { type filter hook forward priority 300; counter name forwarded; }
}
"""


def bulk(lab, seconds, streams, download):
    """Gbit/s at the receiver, by iperf3."""
    flags = ["-c", lab.server_ipv4, "-t", str(seconds), "-P", str(streams), "-J"] + (["-R"] if download else [])
    report = json.loads(lab.output("client", "iperf3", *flags))
    return report["end"]["sum_received"]["bits_per_second"] / 1e9


def wrk(lab, seconds, connections, *flags):
    text = lab.output("client", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *flags, f"http://{lab.server_ipv4}/")
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    # wrk counts the close after each answer as a read error when it does not expect it; other kinds are real.
    if failed and (int(failed[1]) or int(failed[3])):
        raise RuntimeError(f"wrk saw {failed[0]}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]) / 1000


MEASUREMENTS = {
    "bulk up, 1 stream, Gbit/s": lambda lab, seconds: bulk(lab, seconds, 1, False),
    "bulk down, 1 stream, Gbit/s": lambda lab, seconds: bulk(lab, seconds, 1, True),
    "bulk up, 8 streams, Gbit/s": lambda lab, seconds: bulk(lab, seconds, 8, False),
    "bulk down, 8 streams, Gbit/s": lambda lab, seconds: bulk(lab, seconds, 8, True),
    "keep-alive requests, k/s": lambda lab, seconds: wrk(lab, seconds, 32),
    "connections, k/s": lambda lab, seconds: wrk(lab, seconds, 32, "-H", "Connection: close"),
}


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


def observe(lab, path, contender, measurement, seconds):
    """One measurement with everything that is needed to trust it."""
    packets, process, (busy, steal) = path.forwarded_packets(), process_seconds(contender.pids()), machine_seconds()
    figure = MEASUREMENTS[measurement](lab, seconds)
    forwarded = path.forwarded_packets() - packets
    if contender.relays and forwarded > STRAY_PACKETS:
        raise RuntimeError(f"{contender.name} was not in the path: {forwarded} packets were forwarded past it")
    if not contender.relays and forwarded < 100:
        raise RuntimeError("the traffic did not pass the router")
    busy_after, steal_after = machine_seconds()
    return {
        "figure": figure,
        "process_cpu": (process_seconds(contender.pids()) - process) / seconds,
        "machine_cpu": (busy_after - busy) / seconds,
        "steal": (steal_after - steal) / seconds,
    }
