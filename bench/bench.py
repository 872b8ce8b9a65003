#!/usr/bin/python3
# Compares Limpid with kernel forwarding and other proxies in one run: every round measures every contender once, so that what the machine does
# meanwhile hits all of them alike. Prints medians and ratios; trust the ratios. Run by `make bench`.
import argparse
import json
import os
import pathlib
import platform
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import contenders  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from lab import Lab  # noqa: E402


class Bench:
    """The lab, the programs on the server, and whoever is in the path just now."""

    def __init__(self, lab, options, directory):
        self.lab, self.directory, self.udp_exchange = lab, directory, options.udp_exchange
        self.contender = None
        self._origins = []

    def start_origins(self):
        """iperf3, a small web server and an echo server, on the server."""
        pathlib.Path(self.directory).chmod(0o755)
        (pathlib.Path(self.directory) / "files").mkdir()
        text = (contenders.PEERS / "origin.conf").read_text().replace("@DIRECTORY@", self.directory)
        configuration = pathlib.Path(self.directory) / "origin.conf"
        configuration.write_text(text)
        log = open(pathlib.Path(self.directory) / "origin.log", "wb")
        for command in (["iperf3", "-s"], ["/usr/sbin/nginx", "-c", str(configuration)], [self.udp_exchange, "serve", contenders.UDP_PORT]):
            self._origins.append(self.lab.spawn("server", *command, stdout=log, stderr=log))
        contenders.wait_until(lambda: all(f":{port} " in self.lab.output("server", "ss", "-Hltun") for port in (80, 5201, contenders.UDP_PORT)),
                              "origins listen")

    def stop_origins(self):
        for origin in self._origins:
            origin.terminate()
            origin.wait()


def run_rounds(bench, options):
    path = measure.Path(bench.lab)
    chosen = [m for m in measure.MEASUREMENTS if options.only is None or options.only in m.name]
    results = {name: {measurement.name: [] for measurement in chosen} for name in options.contenders}
    for number in range(options.rounds):
        for name in options.contenders:
            bench.contender = contenders.ALL[name](bench.lab, options.limpid, options.workers)
            bench.contender.start()
            try:
                measure.prove_integrity(bench)
                for measurement in chosen:
                    if not bench.contender.takes(measurement):
                        continue
                    print(f"\r\x1b[Kround {number + 1}/{options.rounds}: {name}, {measurement.name}", end="", file=sys.stderr, flush=True)
                    results[name][measurement.name].append(measure.observe(bench, path, measurement, options.seconds))
            finally:
                bench.contender.stop()
    print(file=sys.stderr)
    return results, chosen


def circumstances(options, results):
    """In what the figures were taken: without it they mean nothing."""
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    steal = max(sample["steal"] for by_name in results.values() for samples in by_name.values() for sample in samples)
    return (f"{time.strftime('%Y-%m-%d')}, Linux {platform.release().split('-')[0]}, {os.cpu_count()} CPUs ({model[1] if model else 'unknown'}), "
            f"{options.workers} workers for each proxy, {options.rounds} rounds of {options.seconds} s; largest steal {steal:.0%} of one CPU.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limpid", required=True, help="the binary to measure")
    parser.add_argument("--udp-exchange", required=True, help="the load for UDP, built beside it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of each proxy")
    parser.add_argument("--contenders", nargs="+", default=list(contenders.ALL), choices=list(contenders.ALL))
    parser.add_argument("--only", help="only measurements with this text in their name")
    parser.add_argument("--json", help="write all samples to this file")
    parser.add_argument("--chart", help="write an SVG to this file")
    parser.add_argument("--page", help="put the table into this Markdown file, between its markers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="limpid-bench-") as directory:
        bench = Bench(Lab(), options, directory)
        bench.start_origins()
        try:
            results, chosen = run_rounds(bench, options)
        finally:
            bench.stop_origins()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    if options.chart:
        pathlib.Path(options.chart).write_text(report.chart(results, chosen))
    if options.page:
        page = pathlib.Path(options.page)
        page.write_text(report.put_between_markers(page.read_text(), report.markdown(results, chosen, circumstances(options, results))))
    print(report.table(results, chosen))


if __name__ == "__main__":
    main()
