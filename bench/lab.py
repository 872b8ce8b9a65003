# The lab that the benchmark runs in, as `limpid lab run` describes it to the programs inside.
import os
import subprocess


class Lab:
    """client – router – server; commands run in one of them."""

    def __init__(self):
        described = os.environ.get("LIMPID_LAB")
        if not described:
            raise SystemExit("bench: run me in a lab: limpid lab run --in router -- bench/bench.py (or: make bench)")
        self.namespaces = dict(item.split("=", 1) for item in described.split(","))
        self.server_ipv4 = os.environ["LIMPID_LAB_SERVER_IPV4"]

    def command(self, host, *command):
        return ["nsenter", f"--net={self.namespaces[host]}", *command]

    def spawn(self, host, *command, **options):
        return subprocess.Popen(self.command(host, *command), **options)

    def output(self, host, *command):
        done = subprocess.run(self.command(host, *command), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
