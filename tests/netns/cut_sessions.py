"""A UDP session of the lab that leaves the proxy."""

from peers import wait_until
from udp_exchange import ask

ENOUGH = 8  # datagrams, after which an exchange is handed over
SOURCES = [(), ("--source", "none"), ("--source", "address"), ("--source", "address+port")]


def name_of(flags):
    """Of a test's parameter."""
    return flags[-1] if flags else "default"


def hand_over(lab, limpid, client, server, **options):
    """Talks until the exchange is forwarded past the proxy. Returns how many octets went up and down by then, and whom the server saw."""
    before = limpid.counters()["udp_cut_through"]
    up = down = 0
    for number in range(ENOUGH // 2):
        payload = f"{number}".encode()
        peer = ask(client, server, lab, payload, **options)
        up, down = up + len(payload), down + len(payload) + 3
    wait_until(lambda: limpid.counters()["udp_cut_through"] == before + 1, "it is cut through")
    return up, down, peer


def by_sockets(limpid):
    counters = limpid.counters()
    return counters["udp_datagrams_up"], counters["udp_datagrams_down"]
