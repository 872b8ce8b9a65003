"""What tests of cut-through have in common: flows that have left the proxy."""

from peers import Background, Pattern, receive_digest, wait_until


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


def exchange_digests(connection, length):
    up, down = Pattern(1, length), Pattern(2, length)
    work = [Background(up.send, connection.client), Background(down.send, connection.server),
            Background(receive_digest, connection.server), Background(receive_digest, connection.client)]
    _, _, at_server, at_client = (task.result() for task in work)
    assert (at_server, at_client) == ((up.digest(), length), (down.digest(), length))
