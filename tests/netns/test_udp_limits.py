"""UDP sessions end, and there is an end to how many there are: the rest goes on."""

import statistics
import subprocess
import time

import pytest

from limpid_process import is_sanitized
from peers import Background, wait_until
from udp_exchange import PORT, ask, question


def test_sessions_end_when_idle(lab, start, server):
    limpid = start("--udp", PORT, "--udp-timeout", "1s", "--udp-unanswered-timeout", "300ms")
    client, unheard = lab.client.datagrams(), lab.client.datagrams()
    ask(client, server, lab)
    question(unheard, lab)
    server.recvfrom(100)
    ends = {flow["client"].rpartition(":")[2]: flow for flow in limpid.flows(2)}
    assert ends[str(client.getsockname()[1])]["end"] == "closed"
    assert ends[str(unheard.getsockname()[1])]["end"] == "unanswered"
    assert ends[str(client.getsockname()[1])]["proto"] == "udp"
    ask(client, server, lab)


def test_limits_hold_and_the_oldest_unanswered_goes_first(lab, start, server):
    limpid = start("--udp", PORT, "--workers", 1, "--max-udp-sessions", 20, "--max-udp-sessions-per-source", 10)
    steady = lab.client.datagrams()
    ask(steady, server, lab)
    for _ in range(50):
        question(lab.client.datagrams(), lab)
        server.recvfrom(100)
    counters = limpid.counters()
    assert counters["udp_sessions_total"] - counters["udp_sessions_ended"] == 10
    assert counters["udp_evicted"] == 41
    peer = ask(steady, server, lab)
    assert limpid.counters()["udp_sessions_total"] == 51, f"{peer} is still the first session"


def test_a_flood_of_spoofed_sources_is_bounded_and_tcp_works_on(lab, start, server, echo):
    if lab.family == "ipv6":
        pytest.skip("the flood is built for IPv4")
    if is_sanitized():
        pytest.skip("memory and time say nothing in a sanitized build")
    echo(80)
    limpid = start("--udp", PORT, "--tcp", "80")
    lab.router.run("ip", "route", "add", "10.0.0.0/8", "via", lab.client.address)
    connection = lab.client.connect(lab.server.address, 80)
    flood = """
import random, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
r = random.Random(1)
to = socket.inet_aton(sys.argv[1])
for i in range(int(sys.argv[2])):
    source = struct.pack("!I", 0x0a000000 | r.getrandbits(24))
    udp = struct.pack("!HHHH", 1024 + r.getrandbits(15), 7000, 12, 0) + b"spam"
    s.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 64, 17, 0, source, to) + udp, (sys.argv[1], 0))
"""
    process = lab.client.start(["/usr/bin/python3", "-c", flood, lab.server.address, str(1_000_000)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    old, new = [], []  # seconds that a round trip took: on the old connection, and with a handshake on a new one
    while process.poll() is None:
        begin = time.monotonic()
        connection.sendall(b"still here")
        assert connection.recv(100) == b"still here"
        old.append(time.monotonic() - begin)
        with lab.client.connect(lab.server.address, 80) as another:
            another.sendall(b"here as well")
            assert another.recv(100) == b"here as well"
        new.append(time.monotonic() - begin - old[-1])
    assert process.returncode == 0, process.stderr.read()
    print(f"{len(old)} round trips, median {statistics.median(old):.4f} s and {statistics.median(new):.4f} s, "
          f"longest {max(old):.3f} s and {max(new):.3f} s")
    # No benchmark: the machine may be busy with other things, and on such a one 37 ms, 55 ms and 150 ms were measured.
    assert statistics.median(old) < 1 and statistics.median(new) < 1
    assert limpid.resident_bytes() < 200 << 20
    assert limpid.descriptors() < 6000, "a quarter of 20,000, and what belongs to the rest"
    assert limpid.counters()["udp_sessions_total"] > 10_000

    def serve():
        while (received := server.recvfrom(100))[0] == b"spam":
            pass  # what of the flood still waits, in the server's own queue and in ours
        server.sendto(b"answer", received[1])

    serving = Background(serve)
    client = lab.client.datagrams()
    client.settimeout(0.5)

    def is_answered():
        question(client, lab)  # it is lost as long as a queue is full
        try:
            return client.recv(100) == b"answer"
        except TimeoutError:
            return False

    wait_until(is_answered, "a client gets its answer")
    serving.result()
