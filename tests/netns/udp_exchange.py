"""Questions and answers in datagrams, between a client and a server of the lab."""

import pytest

PORT = 7000


def question(client, lab, port=PORT, payload=b"question", address=None):
    client.sendto(payload, (address or lab.server.address, port))


def answer(server, payload=b"answer"):
    """Receives one datagram on the server and answers it; returns what came and from whom."""
    received, peer = server.recvfrom(65536)
    server.sendto(payload, peer)
    return received, peer


def nothing_comes(sock, seconds=0.3):
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        with pytest.raises(TimeoutError):
            sock.recv(65536)
    finally:
        sock.settimeout(before)


def ask(client, server, lab, payload=b"question", port=PORT):
    """One round trip. Returns whom the server saw."""
    question(client, lab, port, payload)
    received, peer = answer(server, b"re:" + payload[:1000])
    assert received == payload
    got, sender = client.recvfrom(65536)
    assert got == b"re:" + payload[:1000]
    assert sender[:2] == (lab.server.address, port)
    return peer


def all_get_their_own_answers(clients, server, lab, rounds=5):
    """Every client asks at the same time, several times, and none gets the answer of another."""
    for turn in range(rounds):
        for number, client in enumerate(clients):
            question(client, lab, payload=f"{turn} {number}".encode())
        for _ in clients:
            received, peer = server.recvfrom(100)
            server.sendto(received, peer)
        for number, client in enumerate(clients):
            assert client.recv(100) == f"{turn} {number}".encode()


def listens_on_udp(host, port):
    return f":{port} " in host.run("ss", "-Hlun").stdout
