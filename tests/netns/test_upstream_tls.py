"""https:// upstreams: CONNECT over TLS, which HAProxy takes off in front of tinyproxy. Every byte, every end, and whom we believe."""

import contextlib
import select
import socket
import ssl
import struct
import threading
import time

import pytest

from control_client import Control
from limpid_process import DONE, USAGE
from peers import SECONDS, Background, Pattern, bytes_of, exchange, read_exactly, read_to_end, receive_digest, reset, wait_until
from upstream_peers import NEEDS, QUOTED, USER, HostileServer, at, haproxy, is_reset, through

MEBIBYTE = 1 << 20


@pytest.fixture
def certify(lab, need, tmp_path):
    """certify(name, alternative): a certificate that vouches for itself, as one file with its key."""
    need("openssl", "openssl")

    def make(name, alternative):
        key, certificate = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        lab.server.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                       "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}", "-keyout", key, "-out", certificate)
        both = tmp_path / f"{name}.both"
        both.write_text(certificate.read_text() + key.read_text())
        both.chmod(0o644)
        return certificate, both
    return make


@pytest.fixture
def proxy(lab, folder, need, upstream, certify):
    """proxy(kind): its TLS door on port 3129 of the server; returns the CA file."""
    made = []

    def make(kind="tinyproxy", version="TLSv1.2"):
        need(*NEEDS["haproxy"])
        upstream(kind, 3128)
        certificate, both = certify("proxy", f"DNS:proxy.example,IP:{lab.server.address}")
        made.append(haproxy(lab.server, folder, 3129,
                            f"frontend tls\n    mode tcp\n    bind {at(lab.server.address, 3129)} ssl crt {both} ssl-min-ver {version}\n    default_backend plain\n"
                            f"backend plain\n    mode tcp\n    server one {at(lab.server.address, 3128)}\n"))
        return certificate

    yield make
    for peer in made:
        peer.kill()


def url(lab, certificate, access="", more=""):
    return f"https://{access}{at(lab.server.address, 3129)}?ca-file={certificate}{more}"


@pytest.mark.parametrize("kind, version", [("tinyproxy", "TLSv1.3"), ("tinyproxy-password", "TLSv1.2"), ("squid", "TLSv1.2")])
def test_a_flow_goes_through_it(lab, start, proxy, kind, version):
    access = f"{USER}:simple@" if "password" in kind else ""
    limpid = start("--tcp", "80", "--cut-through", "auto", "--upstream", url(lab, proxy(kind, version), access))
    listener = lab.server.listen(80)
    connection = through(lab, listener)
    up, down = bytes_of(1, 6 * MEBIBYTE), bytes_of(2, 6 * MEBIBYTE)
    work = [Background(connection.client.sendall, up), Background(connection.server.sendall, down),
            Background(read_exactly, connection.server, len(up)), Background(read_exactly, connection.client, len(down))]
    _, _, at_server, at_client = (task.result() for task in work)
    assert at_server == up and at_client == down
    shown, = Control().flows()["flows"]
    target_leg = Control().get(f"/v1/flows/{shown['id']}")["flow"]["legs"]["target"]
    assert target_leg["remote"] == at(lab.server.address, 3129) and lab.router.run("ss", "-Htn", "sport", f":{target_leg['local'].rsplit(':', 1)[1]}").stdout
    connection.client.close()
    assert read_to_end(connection.server) == b""
    connection.server.close()
    flow = limpid.flow()
    assert (flow["upstream"], flow["target"]) == (f"https://{at(lab.server.address, 3129)}", at(lab.server.address, 3129))
    assert (flow["end"], int(flow["bytes_up"]), int(flow["bytes_down"])) == ("closed", len(up), len(down))
    assert "cut_through" not in flow
    assert limpid.stop() == DONE


@pytest.mark.parametrize("near", ["microsocks", "https"])
def test_it_is_the_second_link_of_a_chain(lab, start, configure, upstream, proxy, certify, near):
    """Behind a plain one, and within TLS of the first; checks go the same way."""
    door = url(lab, proxy())
    first = door if near == "https" else upstream("microsocks", 1080).url
    stranger, _ = certify("stranger", "DNS:proxy.example")
    limpid = start("-c", configure(tcp="80-81", rules=["dport(81) -> via(stranger)", "otherwise -> via(far)"], upstreams={
        "far": {"servers": [door], "via": "near", "check": "200ms,1,1"}, "near": {"servers": [first], "check": "0"},
        "stranger": {"servers": [url(lab, stranger, more="&name=stranger")], "via": "near", "check": "200ms,1,1"}}))
    connection = through(lab, lab.server.listen(80))
    up, down = bytes_of(1, MEBIBYTE), bytes_of(2, 2 * MEBIBYTE)
    work = [Background(connection.client.sendall, up), Background(connection.server.sendall, down),
            Background(read_exactly, connection.server, len(up)), Background(read_exactly, connection.client, len(down))]
    assert [task.result() for task in work][2:] == [up, down]
    connection.client.close()
    assert read_to_end(connection.server) == b""
    connection.server.close()
    flow = limpid.flow()
    hop = at(lab.server.address, 3129 if near == "https" else 1080)
    assert (flow["upstream"], flow["target"], flow["end"]) == (f"https://{at(lab.server.address, 3129)}", hop, "closed")
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.server.address, 81).recv(1)
    assert limpid.flows(2)[1]["end"] in ("upstream_failed", "upstream_down")
    wait_until(lambda: "an upstream is down" in limpid.messages, "the check finds it")
    down, = [line for line in limpid.messages.splitlines() if "an upstream is down" in line]
    assert "upstream=stranger" in down and "TLS: " in down and "certificate" in down


def test_many_at_once_and_those_that_break(lab, start, proxy):
    """As many ends as there are: each side finishes or resets first, while the other's bytes are on their way."""
    limpid = start("--tcp", "80", "--upstream", url(lab, proxy()), "--upstream-check", "0")
    listener = lab.server.listen(80)
    connections = [through(lab, listener) for _ in range(40)]
    for number, connection in enumerate(connections):
        exchange(connection.client, connection.server, seed=number)
    for number, connection in enumerate(connections):
        one, other = (connection.client, connection.server) if number % 2 else (connection.server, connection.client)
        if number % 4 < 2:
            one.close()
        else:
            reset(one)
        assert ends(other)
        other.close()
    limpid.counters_with(flows_open=0, flows_ended=40)
    wait_until(lambda: "3129" not in lab.router.run("ss", "-Htn", "state", "established").stdout, "no connection is left")


def ends(connection):
    """How, is up to the proxy in between."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("more, because", [("", "certificate"), ("&server-name=other.example", "mismatch"),
                                           ("&server-name=proxy.example", None), ("&verify=no", None)],
                         ids=["not trusted", "another name", "its name", "not verified"])
def test_whom_we_believe(lab, start, proxy, certify, more, because):
    certificate = proxy()
    if because == "certificate" or more == "&verify=no":
        certificate, _ = certify("stranger", "DNS:proxy.example")
    limpid = start("--tcp", "80", "--upstream", url(lab, certificate, more=more), "--upstream-check", "200ms,1,1")
    listener = lab.server.listen(80)
    if because is None:
        connection = through(lab, listener)
        exchange(connection.client, connection.server)
        return
    assert is_reset(lab)
    assert limpid.flow()["end"] in ("upstream_failed", "upstream_down")
    wait_until(lambda: "an upstream is down" in limpid.messages, "the check finds it")
    line = next(line for line in limpid.messages.splitlines() if "an upstream is down" in line)
    assert "TLS: " in line and because in line


def test_a_server_without_tls_and_one_that_says_nothing(lab, start):
    """Garbage is a failure at once; silence is one when the time is over, and the next upstream serves."""
    talks = HostileServer(lab.server, 3129, lambda connection: connection.sendall(b"220 smtp.example ESMTP\r\n" * 10))
    silent = HostileServer(lab.server, 3130, lambda connection: connection.recv(100_000) and connection.recv(1))
    limpid = start("--tcp", "80", "--upstream", f"https://{at(lab.server.address, 3129)}", "--upstream", f"https://{at(lab.server.address, 3130)}",
                   "--upstream", f"https://{at(lab.server.address, 3131)}", "--upstream", "direct://", "--upstream-timeout", "1s", "--upstream-check", "0")
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["upstream"] == "direct://"
    assert talks.accepted == silent.accepted == 1
    assert limpid.counters()["upstream_failovers"] == 3


def test_a_client_that_goes_takes_the_connection_along(lab, start):
    """Also in the middle of the TLS handshake."""
    silent = HostileServer(lab.server, 3129, lambda connection: connection.recv(100_000) and connection.recv(1))
    limpid = start("--tcp", "80", "--upstream", f"https://{at(lab.server.address, 3129)}", "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    wait_until(lambda: silent.accepted == 1, "it is asked")
    reset(client)
    limpid.counters_with(flows_open=0, flows_ended=1)
    wait_until(lambda: ":3129" not in lab.router.run("ss", "-Htn", "state", "established").stdout, "the connection is closed")


@pytest.mark.parametrize("wrong, because", [("http://10.0.0.1?ca-file=/etc/x", "there is no TLS"), ("https://10.0.0.1?ca-file=relative.pem", "ca-file: not a whole path"),
                                            ("https://10.0.0.1?ca-file=/nowhere.pem", "ca-file: /nowhere.pem"), ("https://10.0.0.1?verify=maybe", "verify: not yes or no"),
                                            ("https://10.0.0.1?server-name=a%20b", "server-name: neither")])
def test_mistakes_are_told(lab, launch, wrong, because):
    instance = launch("--tcp", "80", "--upstream", wrong)
    assert instance.process.wait(10) == USAGE
    assert because in instance.messages and QUOTED not in instance.messages


@pytest.fixture
def connect_proxy(lab, certify):
    """connect_proxy(behave, port): one of the tests' own, on port 3129 unless told, with TLS; behave(connection) goes on behind CONNECT. Returns the CA file."""
    certificate, both = certify("proxy", f"IP:{lab.server.address}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)

    def make(behave, port=3129):
        def serve(connection):
            with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as tls:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += tls.recv(1)
                tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                behave(tls)

        HostileServer(lab.server, port, serve)
        return certificate
    return make


def test_a_connection_that_breaks_is_no_end(lab, start, connect_proxy):
    """What the client has got by then is not all, and it hears of that."""
    def behave(connection):
        connection.sendall(bytes(MEBIBYTE))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    limpid = start("--tcp", "80", "--upstream", url(lab, connect_proxy(behave)), "--upstream-check", "0")
    with pytest.raises(ConnectionResetError):
        receive_digest(lab.client.connect(lab.server.address, 80))
    assert limpid.flow()["end"] == "target_reset"


def test_a_connection_that_breaks_after_the_clients_end_is_no_end_either(lab, start, connect_proxy):
    def behave(connection):
        read_to_end(connection)
        connection.sendall(bytes(MEBIBYTE))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    limpid = start("--tcp", "80", "--upstream", url(lab, connect_proxy(behave)), "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        receive_digest(client)
    assert limpid.flow()["end"] == "target_reset"


def test_the_first_link_of_a_chain_that_breaks_is_no_end(lab, start, configure, connect_proxy):
    """TLS within TLS: what breaks is not what the worker has."""
    def far(connection):
        connection.sendall(bytes(2 * MEBIBYTE))
        connection.recv(1)

    def near(connection):
        onwards, passed = lab.server.connect(lab.server.address, 3130), 0
        while passed < MEBIBYTE:
            ready = [connection] if connection.pending() else select.select([connection, onwards], [], [], SECONDS)[0]
            if connection in ready:
                onwards.sendall(connection.recv(65536))
            if onwards in ready:
                piece = onwards.recv(65536)
                connection.sendall(piece)
                passed += len(piece)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    door = url(lab, connect_proxy(near))
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> via(far)"], upstreams={
        "far": {"servers": [f"https://{at(lab.server.address, 3130)}?ca-file={connect_proxy(far, 3130)}"], "via": "near", "check": "0"},
        "near": {"servers": [door], "check": "0"}}))
    with pytest.raises(ConnectionResetError):
        receive_digest(lab.client.connect(lab.server.address, 80))
    assert limpid.flow()["end"] == "target_reset"


def test_what_a_client_sent_before_its_reset_arrives(lab, start, connect_proxy):
    """The proxy is slow: when it reads on, the client is gone."""
    sent = bytes_of(3, 300_000)
    received, go_on = bytearray(), threading.Event()

    def behave(connection):
        go_on.wait(SECONDS)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                received.extend(piece)

    limpid = start("--tcp", "80", "--upstream", url(lab, connect_proxy(behave)), "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(sent)
    limpid.counters_with(bytes_up=len(sent))
    reset(client)
    time.sleep(0.3)  # it must wait, and has nothing to say meanwhile
    go_on.set()
    assert limpid.flow()["end"] == "client_reset"
    wait_until(lambda: received == sent, "all that was sent")


def test_a_reset_after_the_proxys_end_is_no_end(lab, start, connect_proxy):
    """What the client had begun to say is not whole, and the proxy hears of that."""
    outcome, ended = [], threading.Event()

    def behave(connection):
        connection.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            connection.unwrap()  # close_notify; the other side has more to say
        ended.set()
        connection.settimeout(SECONDS)
        try:
            while connection.recv(65536):
                pass
            outcome.append("end")
        except (ConnectionResetError, ssl.SSLEOFError):  # no close_notify, whatever OpenSSL makes of the RST
            outcome.append("broken")

    limpid = start("--tcp", "80", "--upstream", url(lab, connect_proxy(behave)), "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    assert client.recv(1) == b"" and ended.wait(SECONDS)
    client.sendall(b"half of what I")
    limpid.counters_with(bytes_up=14)
    reset(client)
    assert limpid.flow()["end"] == "client_reset"
    wait_until(lambda: outcome, "it hears of it")
    assert outcome == ["broken"]


def test_a_half_closed_flow_lives_on(lab, start, connect_proxy):
    """close_notify ends one direction only."""
    up, down = Pattern(1, 3 * MEBIBYTE), Pattern(2, 3 * MEBIBYTE)
    received = []

    def behave(connection):
        received.append(receive_digest(connection))  # to the client's end, a close_notify
        down.send(connection)

    limpid = start("--tcp", "80", "--upstream", url(lab, connect_proxy(behave)), "--upstream-check", "0")
    client = lab.client.connect(lab.server.address, 80)
    up.send(client)
    assert receive_digest(client) == (down.digest(), down.length)
    assert received == [(up.digest(), up.length)]
    client.close()
    assert limpid.flow()["end"] == "closed"
