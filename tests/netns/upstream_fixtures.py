"""Real proxies on the server, for flows to go through."""

import pytest

from upstream_peers import NEEDS, QUOTED, USER, at, danted, microsocks, squid_connect, tinyproxy


@pytest.fixture
def upstream(lab, folder, need):
    """upstream(kind, port) starts a proxy on the server; returns it, with its URL."""
    made = []

    def make(kind, port=1080):
        program, _, password = kind.partition("-")
        need(*NEEDS[program])
        start = {"microsocks": microsocks, "danted": danted, "tinyproxy": tinyproxy, "squid": squid_connect}[program]
        peer = start(lab.server, folder, port, **({"password": True} if password else {}))
        scheme = "http" if program in ("tinyproxy", "squid") else "socks5"
        secret = QUOTED if program == "microsocks" else "simple"
        access = f"{USER}:{secret}@" if password else ""
        peer.url = f"{scheme}://{access}{at(lab.server.address, port)}"
        peer.shown = f"{scheme}://{at(lab.server.address, port)}"
        made.append(peer)
        return peer

    yield make
    for peer in made:
        peer.kill()
        print(f"--- {peer.name}\n{peer.said()}")
