"""`limpid explain` and `limpid trace` on the lab's router, their answers as dicts, and who must hear nothing of the probes."""

import json
import signal

import limpid_process
from peers import wait_until

PORT = 80
# An eBPF program cannot tell whether it is transparent.
NO_LISTENER = "no listener on" if limpid_process.BACKEND == "ebpf" else "no transparent listener on"


def run(lab, *arguments, check=True, prefix=()):
    return lab.router.run(*prefix, limpid_process.BINARY, "explain", *arguments, check=check)


def endpoint(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def ask(lab, transport, source, address, port, *arguments):
    """The JSON of one question. `source`: an address, or None."""
    done = run(lab, transport, *([source] if source else []), endpoint(address, port), "--json", *arguments)
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    return answer


def forwarded(lab, transport="tcp", port=PORT, address=None, source=None, arguments=()):
    """What becomes of the client's packet to the server."""
    return ask(lab, transport, source or lab.client.address, address or lab.server.address, port, *arguments)


def local(lab, transport="tcp", port=PORT, address=None, arguments=()):
    """What becomes of a packet that the router sends to the server itself."""
    return ask(lab, transport, None, address or lab.server.address, port, "--local", *arguments)


class Eavesdropper:
    """Counts what arrives at a host of TCP, UDP and ICMP errors."""

    RULES = """table inet eavesdropper {
      chain heard {
        type filter hook prerouting priority raw; policy accept;
        meta l4proto { tcp, udp, icmp } counter
        icmpv6 type { destination-unreachable, time-exceeded, parameter-problem } counter
      }
    }
    """

    def __init__(self, host):
        self._host = host
        host.nft(self.RULES)

    @property
    def packets(self):
        listing = json.loads(self._host.run("nft", "-j", "list", "chain", "inet", "eavesdropper", "heard").stdout)
        return sum(part["counter"]["packets"] for entry in listing["nftables"] if "rule" in entry
                   for part in entry["rule"]["expr"] if "counter" in part)


class Trace:
    """A `limpid trace` that runs on the router."""

    def __init__(self, lab, folder, *arguments):
        folder.mkdir()
        self._out, self._err = folder / "stdout", folder / "stderr"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.process = lab.router.start([limpid_process.BINARY, "trace", *arguments], stdout=out, stderr=err)
        wait_until(lambda: "following" in self._err.read_text() or self.process.poll() is not None, "it follows")
        assert self.process.poll() is None, self._err.read_text()

    @property
    def packets(self):
        return [json.loads(line) for line in self._out.read_text().split("\n")[:-1]]

    @property
    def text(self):
        return self._out.read_text()

    def wait_for(self, condition, what):
        """The packets so far, once `condition` holds for one of them."""
        return wait_until(lambda: any(map(condition, self.packets)) and self.packets, what)

    def stop(self, signal_number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(10)
