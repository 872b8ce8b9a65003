"""Flows that leave the proxy: every byte arrives, no socket is left, the access log still has them, and they outlive the daemon."""

import os
import random
import socket
import struct

import pytest

import kernel_state
import limpid_process
from limpid_process import DONE, UNSUPPORTED
from peers import Background, Pattern, bytes_of, exchange, read_exactly, read_to_end, read_to_reset, receive_digest, reset, wait_until

MEBIBYTE = 1 << 20
# Thousands for those who ask: LIMPID_CUT_FLOWS=5000.
FLOWS = int(os.environ.get("LIMPID_CUT_FLOWS", "60"))


@pytest.fixture
def cut(start):
    """cut(arguments…): `limpid run --tcp 80 --cut-through always`."""
    def run(*arguments, **options):
        return start("--tcp", "80", "--cut-through", "always", *arguments, **options)
    return run


def sockets(lab):
    """The router's own, established ones."""
    return [line for line in lab.router.run("ss", "-Htn", "state", "established").stdout.splitlines() if line]


def dial_cut(lab, limpid, listener):
    """A connection, and returns when it has left the proxy."""
    before = limpid.counters()["cut_through"]
    connection = lab.dial(listener)
    wait_until(lambda: limpid.counters()["cut_through"] == before + 1, "it is cut through")
    wait_until(lambda: not sockets(lab), "no socket is left")
    return connection


@pytest.mark.parametrize("source", [(), ("--source", "none"), ("--source", "address+port"), ("--source", "prefer-port")], ids=lambda flags: flags[-1] if flags else "address")
@pytest.mark.parametrize("direction", ["up", "down", "duplex"])
def test_every_byte_arrives(lab, cut, source, direction):
    limpid = cut(*source)
    connection = dial_cut(lab, limpid, lab.server.listen(80))
    relayed = limpid.counters()
    up, down = Pattern(1, 48 * MEBIBYTE if direction != "down" else 0), Pattern(2, 48 * MEBIBYTE if direction != "up" else 0)
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result() for task in work)
    assert at_server == (up.digest(), up.length)
    assert at_client == (down.digest(), down.length)
    after = limpid.counters()
    assert (after["bytes_up"], after["bytes_down"], after["flows_total"]) == (relayed["bytes_up"], relayed["bytes_down"], 1), "the relay has seen none of it"
    flow = limpid.flow()
    assert (int(flow["bytes_up"]), int(flow["bytes_down"]), flow["end"], flow["cut_through"]) == (up.length, down.length, "closed", "yes")
    assert flow["client"].endswith(f":{connection.local[1]}")
    assert limpid.stop() == DONE
