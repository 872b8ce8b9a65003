#!/usr/bin/python3
# Compares Limpid with kernel forwarding, HAProxy and nginx in one run: every round measures every contender once, so that what the
# machine does meanwhile hits all of them alike. Prints medians and ratios; trust the ratios. Run by `make bench`.
import argparse
import json
import statistics
import sys
import tempfile
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import contenders  # noqa: E402
import measure  # noqa: E402
from lab import Lab  # noqa: E402


def start_origins(lab, directory):
    """iperf3 and a small web server, on the server."""
    text = (contenders.PEERS / "origin.conf").read_text().replace("@DIRECTORY@", directory)
    configuration = pathlib.Path(directory) / "origin.conf"
    configuration.write_text(text)
    log = open(pathlib.Path(directory) / "origin.log", "wb")
    started = [lab.spawn("server", "iperf3", "-s", stdout=log, stderr=log),
               lab.spawn("server", "/usr/sbin/nginx", "-c", str(configuration), stdout=log, stderr=log)]
    contenders.wait_until(lambda: all(f":{port} " in lab.output("server", "ss", "-Hltn") for port in (80, 5201)), "origins listen")
    return started


def run_rounds(lab, options):
    path = measure.Path(lab)
    results = {name: {measurement: [] for measurement in measure.MEASUREMENTS} for name in options.contenders}
    for number in range(options.rounds):
        for name in options.contenders:
            print(f"\rround {number + 1}/{options.rounds}: {name:12}", end="", file=sys.stderr, flush=True)
            contender = contenders.ALL[name](lab, options.limpid, options.workers)
            contender.start()
            try:
                for measurement, samples in results[name].items():
                    samples.append(measure.observe(lab, path, contender, measurement, options.seconds))
            finally:
                contender.stop()
    print(file=sys.stderr)
    return results


def print_table(results):
    names = list(results)
    print(f"{'median (min–max), × forwarding, proxy CPU':34}" + "".join(f"{name:>34}" for name in names))
    for measurement in measure.MEASUREMENTS:
        row = f"{measurement:34}"
        base = statistics.median(sample["figure"] for sample in results[names[0]][measurement])
        for name in names:
            samples = results[name][measurement]
            figures = [sample["figure"] for sample in samples]
            median = statistics.median(figures)
            cpu = statistics.median(sample["process_cpu"] for sample in samples)
            row += f"{median:8.2f} ({min(figures):.1f}–{max(figures):.1f}) ×{median / base:.2f} {cpu:4.0%}".rjust(34)
        print(row)
    steal = max(sample["steal"] for by_name in results.values() for samples in by_name.values() for sample in samples)
    print(f"largest steal in one sample: {steal:.0%} of one CPU")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limpid", required=True, help="the binary to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of each proxy")
    parser.add_argument("--contenders", nargs="+", default=list(contenders.ALL), choices=list(contenders.ALL))
    parser.add_argument("--json", help="write all samples to this file")
    options = parser.parse_args()
    lab = Lab()
    with tempfile.TemporaryDirectory(prefix="limpid-bench-") as directory:
        origins = start_origins(lab, directory)
        try:
            results = run_rounds(lab, options)
        finally:
            for origin in origins:
                origin.terminate()
                origin.wait()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    print_table(results)


if __name__ == "__main__":
    main()
