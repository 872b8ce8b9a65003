"""Out of file descriptors: who is served stays served, who comes is refused quickly, no CPU is burnt, and it passes."""

import selectors
import time

import pytest

from limpid_process import BINARY, is_sanitized, parse_logfmt
from peers import read_exactly, wait_until


def is_served(client):
    """True when the echo came back, False when it was refused."""
    try:
        client.sendall(b"ping")
        return read_exactly(client, 4) == b"ping"
    except ConnectionError:
        return False


def try_to_connect(lab):
    """A connection, or None when it was reset before connect(2) returned."""
    try:
        return lab.client.connect(lab.server.address, 80, timeout=5)
    except ConnectionError:
        return None


def refusals_told(limpid):
    return [parse_logfmt(line) for line in limpid.messages.splitlines() if "connections were refused" in line]


def look_on(seconds):
    """Lets time pass: what is measured is what somebody else does meanwhile."""
    with selectors.DefaultSelector() as selector:
        selector.select(seconds)


@pytest.mark.parametrize("limit, load", [(64, 150), (1024, 700)])
def test_at_the_limit(lab, start, echo, limit, load):
    limpid = start("--tcp", "80", wrapper=["prlimit", f"--nofile={limit}:{limit}"])
    echo(80)
    old = lab.client.connect(lab.server.address, 80)
    assert is_served(old)

    clients, slowest = [], 0.0
    for _ in range(load):
        began = time.monotonic()
        client = try_to_connect(lab)
        clients.append((client, client is not None and is_served(client)))
        slowest = max(slowest, time.monotonic() - began)
    served = [client for client, good in clients if good]
    assert len(served) >= limit // 8, "a good part of the descriptors carries flows"
    assert len(served) < load, "the limit was not reached"
    assert slowest < 0.5, "seconds until a connection was either served or refused"
    assert limpid.descriptors() <= limit

    used, began = limpid.cpu_seconds(), time.monotonic()
    look_on(1)
    busy = (limpid.cpu_seconds() - used) / (time.monotonic() - began)
    if not is_sanitized():
        assert busy <= 0.1
    assert is_served(old) and all(is_served(client) for client in served)
    assert limpid.counters()["refused_limit"] == load - len(served)
    told = wait_until(lambda: refusals_told(limpid), "the refusals are told of")
    assert len(told) == 1, "once a minute at most"
    assert told[0]["because"] == "the hard limit of open files" and "LimitNOFILE=" in told[0]["remedy"]

    for client in served:
        client.close()
    wait_until(lambda: (client := try_to_connect(lab)) and is_served(client), "new connections are served", 1)
    assert is_served(old)
    assert limpid.counters()["flows_total"] >= load + 2


def test_connections_beyond_max_flows_are_refused(lab, start, echo):
    limpid = start("--tcp", "80", "--max-flows", "10", "--workers", "1")
    echo(80)
    clients = [client for _ in range(30) if (client := try_to_connect(lab))]
    served = [client for client in clients if is_served(client)]
    assert len(served) == 10
    assert limpid.counters()["refused_limit"] == 20
    told = wait_until(lambda: refusals_told(limpid), "the refusals are told of")
    assert [(message["refused"], message["limit"], message["because"]) for message in told] == [("20", "10", "--max-flows")]
    assert "refused       20 connections, because there was no room" in lab.router.run(BINARY, "status").stdout
    for client in served:
        client.close()
    wait_until(lambda: (client := try_to_connect(lab)) and is_served(client), "new connections are served", 1)


def test_a_burst_beyond_the_limit_passes(lab, start, echo):
    """All at once instead of one by one: every one of them is decided."""
    limpid = start("--tcp", "80", wrapper=["prlimit", "--nofile=64:64"])
    echo(80)
    clients = [client for _ in range(300) if (client := try_to_connect(lab))]
    outcomes = [is_served(client) for client in clients]
    assert any(outcomes) and not all(outcomes)
    for client in clients:
        client.close()
    wait_until(lambda: (client := try_to_connect(lab)) and is_served(client), "new connections are served", 1)
    assert limpid.counters()["flows_total"] >= 301
