"""What the tests of `limpid relay` share: the client's way through it, and what /proc says of its processes."""

from peers import exchange

PORT = 8080  # where the relay listens
FAMILIES = ["ipv4", "ipv6"]


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def dial(lab, listener):
    """The client to the relay, and what arrives at the server's listener."""
    return lab.dial(listener, address=lab.router.address, port=PORT)


def is_relayed(lab, listener):
    connection = dial(lab, listener)
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    return connection


def refused(lab, host=None, port=PORT):
    try:
        (host or lab.client).connect(lab.router.address, port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it was accepted
    return False


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def exists(pid):
    try:
        return status_of(pid)["State"][0] != "Z"
    except OSError:
        return False
