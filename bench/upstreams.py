#!/usr/bin/python3
"""Limpid in front of a SOCKS5 server and of a CONNECT proxy, beside redsocks in front of the same, and beside a Limpid without upstream.

Usage: limpid lab run --in router -- bench/upstreams.py --limpid BINARY [--rounds N] [--seconds N]

One connection, upwards, by iperf3; each round measures every contender once, so that what the machine does meanwhile hits all of them alike. Prints medians: Gbit/s, and
seconds of CPU that the process on the router takes for a gigabyte. The upstream runs beside the server and is the same for all: where it is the limit, the CPU time tells.
Both the redirection to redsocks and Limpid's interception are for IPv4. Skips redsocks where it is not installed (Debian: redsocks).
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import contenders
from lab import Lab

TICK = os.sysconf("SC_CLK_TCK")
SOCKS, CONNECT, REDSOCKS, IPERF = 1080, 8888, 12345, 5201
REDIRECT = "table ip bench_redsocks {\n chain pre {\n type nat hook prerouting priority dstnat;\n tcp dport %d redirect to :%d\n }\n}\n"


class LimpidVia(contenders.Limpid):
    def __init__(self, lab, limpid, url):
        super().__init__(lab, limpid, 1)
        self.flags = ("--upstream", url, "--upstream-check", "0") if url else ()


class Redsocks(contenders.Contender):
    def __init__(self, lab, port, kind):
        super().__init__(lab, "", 1)
        self._configuration = (f"base {{ log_debug = off; log_info = off; log = stderr; daemon = off; redirector = iptables; }}\n"
                               f"redsocks {{ local_ip = 0.0.0.0; local_port = {REDSOCKS}; ip = {lab.server_ipv4}; port = {port}; type = {kind}; }}\n")

    def start(self):
        path = Path(self.directory.name) / "redsocks.conf"
        path.write_text(self._configuration)
        self.spawn("redsocks", "-c", str(path))
        self.wait_for_listener(REDSOCKS)
        rules = Path(self.directory.name) / "redirect.nft"
        rules.write_text(REDIRECT % (IPERF, REDSOCKS))
        self.lab.output("router", "nft", "-f", str(rules))

    def stop(self):
        self.lab.output("router", "nft", "delete", "table", "ip", "bench_redsocks")
        super().stop()


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def measure(lab, contender, seconds):
    contender.start()
    try:
        before = cpu_seconds(contender.pids())
        report = json.loads(lab.output("client", "iperf3", "-c", lab.server_ipv4, "-t", str(seconds), "-J"))
        used = cpu_seconds(contender.pids()) - before
    finally:
        contender.stop()
    received = report["end"]["sum_received"]
    if used == 0:
        raise RuntimeError("it was not in the path: it has used no CPU")
    return received["bits_per_second"] / 1e9, used / (received["bytes"] / 1e9)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limpid", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    lab = Lab()
    socks, connect = f"socks5://{lab.server_ipv4}:{SOCKS}", f"http://{lab.server_ipv4}:{CONNECT}"
    made = {"limpid, no upstream": lambda: LimpidVia(lab, options.limpid, ""),
            "limpid, SOCKS5": lambda: LimpidVia(lab, options.limpid, socks), "limpid, CONNECT": lambda: LimpidVia(lab, options.limpid, connect)}
    if shutil.which("redsocks") or Path("/usr/sbin/redsocks").exists():
        made |= {"redsocks, SOCKS5": lambda: Redsocks(lab, SOCKS, "socks5"), "redsocks, CONNECT": lambda: Redsocks(lab, CONNECT, "http-connect")}
    samples = {name: [] for name in made}
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "tinyproxy.conf"
        configuration.write_text(f"Port {CONNECT}\nListen {lab.server_ipv4}\nTimeout 600\nMaxClients 100\n")
        servers = [lab.spawn("server", *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for argv in (["iperf3", "-s", "--forceflush", "--logfile", "/dev/null"],
                                                           ["microsocks", "-i", "0.0.0.0", "-p", str(SOCKS)],
                                                           ["tinyproxy", "-d", "-c", str(configuration)])]
        try:
            for port in (IPERF, SOCKS, CONNECT):
                contenders.wait_until(lambda port=port: f":{port} " in lab.output("server", "ss", "-Hltn"), f"port {port}")
            for _ in range(options.rounds):
                for name, make in made.items():
                    samples[name].append(measure(lab, make(), options.seconds))
        finally:
            for server in servers:
                server.kill()
    print(f"{'':22} {'Gbit/s':>8} {'CPU s/GB':>9}")
    for name, taken in samples.items():
        figure, cost = (statistics.median(each) for each in zip(*taken))
        print(f"{name:22} {figure:8.2f} {cost:9.2f}")


if __name__ == "__main__":
    main()
