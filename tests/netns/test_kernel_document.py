"""Every command and C fragment of the kernel's document on transparent proxying does what the document says, with Limpid's tools as the
applications; and one line of Limpid's does the same. docs/from-the-kernel-document.md is the page about it."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

import limpid_process
import real_proxies
from exec_process import python, under_exec
from kernel_document import VARIANTS, Document, blocks, commands, compile_fragment, fragments_address
from kernel_state import difference, snapshot
from lab import IP_TRANSPARENT, SECONDS
from peers import Background, bytes_of, exchange, read_to_end, wait_until

FOREIGN = {"ipv4": fragments_address()[0], "ipv6": "2001:db8:dead::beef"}
FOREIGN_PORT = fragments_address()[1]
PROXY_PORT = 50080


@pytest.fixture(name="document", params=VARIANTS)
def document_(lab, request, tmp_path):
    """The document's commands for the router, by each of its variants."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return Document(lab.router, request.param, folder)


def shown(address, port):
    """As limpid writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def told(client, address, port):
    """Who called and whom, as `limpid nc -v` tells it: the original destination."""
    return f"connection from {shown(*client.getsockname()[:2])} to {shown(address, port)}"


def test_the_page_has_every_command_and_the_fragment():
    page = Path(__file__).parents[2] / "docs/from-the-kernel-document.md"
    text = re.sub(r"\s+", " ", page.read_text())
    for name in blocks():
        for command in commands(name) if name != "bind, C" else blocks()[name].strip().splitlines():
            assert re.sub(r"\s+", " ", command.strip()) in text, f"{page}: {command}"
    assert fragments_address() == ("222.173.190.239", 51966)


# 1. Making non-local sockets work


def test_a_non_local_socket_calls(lab, document, netcat):
    """And by nothing but the commands: before them the answer finds nobody."""
    listener = lab.server.listen(7000)
    call = ("-N", "-s", FOREIGN[lab.family], "-p", FOREIGN_PORT, lab.server.address, 7000)
    before = netcat(lab.router, "-w", "300ms", *call)
    assert before.status() == limpid_process.FAILURE and "no answer" in before.messages
    document.divert()
    caller = netcat(lab.router, *call, stdin=b"as somebody else")
    connection, peer = listener.accept()
    connection.settimeout(SECONDS)
    assert peer[:2] == (FOREIGN[lab.family], FOREIGN_PORT)
    assert read_to_end(connection) == b"as somebody else"
    connection.sendall(bytes_of(1, 100_000))
    connection.close()
    assert caller.output() == bytes_of(1, 100_000)


def test_a_non_local_socket_listens(lab, document, netcat):
    document.divert()
    listener = netcat(lab.router, "-l", "-v", "-N", "-s", FOREIGN[lab.family], FOREIGN_PORT, stdin=b"at home").listening()
    client = lab.client.connect(FOREIGN[lab.family], FOREIGN_PORT)
    client.sendall(b"anybody there?")
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"at home"
    assert listener.output() == b"anybody there?"
    assert told(client, FOREIGN[lab.family], FOREIGN_PORT) in listener.messages


def test_an_unmodified_nc_calls(lab, document, need):
    """«A trivial patch for netcat is available»: none is needed."""
    need("nc", "netcat-openbsd")
    document.divert()
    listener = lab.server.listen(7000)
    argv = ["nc", "-N", "-s", FOREIGN[lab.family], "-p", FOREIGN_PORT, lab.server.address, 7000]
    assert "Cannot assign requested address" in lab.router.run(*argv, input="", check=False).stderr
    calling = Background(lambda: lab.router.run(*under_exec(*argv), input="unpatched"))
    connection, peer = listener.accept()
    connection.settimeout(SECONDS)
    assert peer[:2] == (FOREIGN[lab.family], FOREIGN_PORT)
    assert read_to_end(connection) == b"unpatched"
    connection.sendall(b"good day")
    connection.close()
    assert calling.result().stdout == "good day"


# The C fragment is IPv4's; tests/unit/net/bind_transparent_test.cc binds IPv6 in the same way.
only_ipv4 = pytest.mark.parametrize("family", ["ipv4"])


@only_ipv4
@pytest.mark.parametrize("way", ["as it stands", "without IP_TRANSPARENT, under limpid exec"])
def test_the_fragment_calls(lab, document, tmp_path, need, way):
    need("gcc", "gcc")
    document.divert()
    program = compile_fragment(tmp_path, transparent=way == "as it stands")
    listener = lab.server.listen(7000)
    argv = [program, lab.server.address, 7000]
    calling = Background(lab.router.run, *(argv if way == "as it stands" else under_exec(*argv)))
    connection, peer = listener.accept()
    connection.settimeout(SECONDS)
    assert peer == fragments_address()
    assert read_to_end(connection) == b"hello"
    connection.sendall(b"good day")
    connection.close()
    done = calling.result()
    assert done.stdout == "good day"
    assert "from 222.173.190.239:51966\n" in done.stderr


@only_ipv4
def test_the_fragment_listens(lab, document, tmp_path, need):
    need("gcc", "gcc")
    document.divert()
    with open(tmp_path / "stderr", "wb") as errors:
        lab.router.start([compile_fragment(tmp_path)], stderr=errors, stdout=subprocess.DEVNULL)
    said = (tmp_path / "stderr").read_text
    wait_until(lambda: "listening" in said(), "it listens")
    client = lab.client.connect(*fragments_address())
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"hello"
    assert "from 222.173.190.239:51966\n" in said()
    assert f"to {shown(*client.getsockname())}\n" in said()


@only_ipv4
def test_without_the_option_the_fragment_binds_to_nothing(lab, tmp_path, need):
    """«All you have to do is enable the (SOL_IP, IP_TRANSPARENT) socket option before calling bind»."""
    need("gcc", "gcc")
    done = lab.router.run(compile_fragment(tmp_path, transparent=False), lab.server.address, 7000, check=False)
    assert (done.returncode, done.stderr) == (1, "bound to 0.0.0.0:0\n")


# 2. Redirecting traffic


def start_python(lab, folder):
    """The document's «you'll have to modify the proxy», in Python: sends what it was asked for."""
    level, option = ("socket.SOL_IP", IP_TRANSPARENT) if lab.family == "ipv4" else ("socket.IPPROTO_IPV6", 75)
    script = python(f"listener = socket.socket(socket.AF_INET{'6' if lab.family == 'ipv6' else ''})\n"
                    f"listener.setsockopt({level}, {option}, 1)\nlistener.bind(('', {PROXY_PORT}))\nlistener.listen()\n"
                    "print('listening', flush=True)\nclient = listener.accept()[0]\n"
                    "client.sendall(('%s %d' % client.getsockname()[:2]).encode())\nclient.close()\n")
    return lab.router.start(script, stdout=open(folder / "proxy", "wb"))


def test_the_document_redirects_to_limpid_nc(lab, document, netcat):
    document.divert()
    document.redirect()
    listener = netcat(lab.router, "-l", "-v", "-N", "--transparent", PROXY_PORT, stdin=bytes_of(1, 100_000)).listening()
    client = lab.client.connect(lab.nowhere, 80)
    sending = Background(client.sendall, bytes_of(2, 100_000))
    assert client.recv(1 << 20, socket.MSG_PEEK)
    sending.result()
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == bytes_of(1, 100_000)
    assert listener.output() == bytes_of(2, 100_000)
    assert told(client, lab.nowhere, 80) in listener.messages


def test_the_document_redirects_to_a_proxy_that_sets_the_option(lab, document, tmp_path):
    document.divert()
    document.redirect()
    start_python(lab, tmp_path)
    wait_until(lambda: "listening" in (tmp_path / "proxy").read_text(), "it listens")
    client = lab.client.connect(lab.nowhere, 80)
    assert read_to_end(client).decode() == f"{lab.nowhere} 80"


def test_the_document_redirects_to_an_unmodified_nc(lab, document, need):
    need("nc", "netcat-openbsd")
    document.divert()
    document.redirect()
    nc = lab.router.start(under_exec("nc", "-4" if lab.family == "ipv4" else "-6", "-l", PROXY_PORT), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE)
    wait_until(lambda: f":{PROXY_PORT}" in lab.router.run("ss", "-Hltn").stdout, "it listens")
    client = lab.client.connect(lab.nowhere, 80)
    client.sendall(b"for nowhere\n")
    assert nc.stdout.readline() == b"for nowhere\n"
    nc.stdin.write(b"from nowhere\n")
    nc.stdin.flush()
    assert client.recv(100) == b"from nowhere\n"
    assert client.getpeername()[:2] == (lab.nowhere, 80)


def test_other_ports_are_forwarded(lab, document, netcat):
    document.divert()
    document.redirect()
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-e", "cat", PROXY_PORT).listening()
    connection = lab.dial(lab.server.listen(81))
    assert connection.was_forwarded
    exchange(connection.client, connection.server)


# The whole, and one line of Limpid's in its place

DOCUMENT = Path(__file__).parents[2] / "docs" / "from-the-kernel-document.md"


def documented_script():
    """A transparent proxy out of two netcats, as our document has it: it calls whom its client dialled, as its client."""
    script, = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return script


def seen_through(lab, web, other):
    """What both sides see on port 80 and on port 81."""
    seen = []
    for listener in (web, other):
        connection = lab.dial(listener)
        seen.append({"client's peer": connection.client.getpeername()[:2], "server's peer": connection.seen[0],
                     "forwarded": connection.was_forwarded})
        exchange(connection.client, connection.server)
        connection.client.shutdown(socket.SHUT_WR)
        assert read_to_end(connection.server) == b""
        connection.server.sendall(b"half-closed")
        connection.server.close()
        assert read_to_end(connection.client) == b"half-closed"
    return seen


def test_limpid_run_is_all_of_it_in_one_line(lab, document, netcat, start, tmp_path):
    web, other = lab.server.listen(80), lab.server.listen(81)
    untouched = snapshot(lab.router)
    limpid = start("--tcp", "80")
    by_limpid = seen_through(lab, web, other)
    assert limpid.stop() == 0
    assert difference(untouched, snapshot(lab.router)) == [], "and it can be undone"

    document.divert()
    document.redirect()
    relay = tmp_path / "relay"
    relay.write_text(documented_script().replace("limpid nc ", f"{limpid_process.BINARY} nc "))
    relay.chmod(0o755)
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-e", relay, PROXY_PORT).listening()
    by_the_document = seen_through(lab, web, other)
    assert by_limpid == by_the_document == [
        {"client's peer": (lab.server.address, 80), "server's peer": lab.client.address, "forwarded": False},
        {"client's peer": (lab.server.address, 81), "server's peer": lab.client.address, "forwarded": True}]


def test_limpid_rules_is_the_commands_in_one_line(lab, netcat):
    """For the same listener on the same port, and without the pitfalls below."""
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--to-port", PROXY_PORT)
    listener = netcat(lab.router, "-l", "-v", "-N", "--transparent", PROXY_PORT, stdin=b"got you").listening()
    client = lab.client.connect(lab.nowhere, 80)
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"got you"
    listener.output()
    assert told(client, lab.nowhere, 80) in listener.messages


# What the document does not say. Each of these is a row of the page's table of pitfalls.

in_each_way = pytest.mark.parametrize("way", [*VARIANTS, "limpid"])


def install(lab, way, folder):
    """All of the document's commands, or Limpid's one."""
    if way == "limpid":
        lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--to-port", PROXY_PORT)
        return
    document = Document(lab.router, way, folder)
    document.divert()
    document.redirect()


@in_each_way
def test_who_dials_the_proxys_port_at_somebody_else(lab, netcat, tmp_path, way):
    """The document's nft rule takes a listener on any address for the packet's own socket, and hands it connections to that port of
    everybody; iptables' match and Limpid's rules leave such listeners out."""
    install(lab, way, tmp_path)
    listener = netcat(lab.router, "-l", "-k", "-v", "--transparent", "-c", "echo stolen", PROXY_PORT).listening()
    server = lab.server.listen(PROXY_PORT)
    client = lab.client.connect(lab.server.address, PROXY_PORT)
    if way == "nft":
        assert read_to_end(client) == b"stolen\n"
        return
    connection, _ = server.accept()
    connection.close()
    assert read_to_end(client) == b"" and "connection from" not in listener.messages


@in_each_way
def test_who_dials_the_router_itself(lab, netcat, tmp_path, way):
    """Its own web server, or with `--dport 22` its ssh: the document's rules take that too."""
    install(lab, way, tmp_path)
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-c", "echo the proxy", PROXY_PORT).listening()
    netcat(lab.router, "-l", "-k", "-v", "-c", "echo the router", 80).listening()
    client = lab.client.connect(lab.router.address, 80)
    assert read_to_end(client) == (b"the router\n" if way == "limpid" else b"the proxy\n")


@in_each_way
def test_what_happens_while_nobody_listens(lab, tmp_path, way):
    """iptables' TPROXY drops, so that clients wait; nft's goes on to the next rule, and the packet is forwarded."""
    install(lab, way, tmp_path)
    listener = lab.server.listen(80)
    if way.startswith("iptables"):
        with pytest.raises(TimeoutError):
            lab.client.connect(lab.server.address, 80, timeout=0.3)
    else:
        assert lab.dial(listener).was_forwarded


@only_ipv4
@pytest.mark.parametrize("src_valid_mark", [0, 1])
@pytest.mark.parametrize("way", ["nft", "limpid"])
def test_where_source_addresses_are_validated(lab, netcat, tmp_path, way, src_valid_mark):
    """With the packet's mark, source validation meets the document's rule, finds the client's address local, and drops the packet."""
    lab.router.sysctl("net/ipv4/conf/all/rp_filter", 1)
    lab.router.sysctl("net/ipv4/conf/all/src_valid_mark", src_valid_mark)
    install(lab, way, tmp_path)
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-c", "echo the proxy", PROXY_PORT).listening()
    if way == "nft" and src_valid_mark:
        with pytest.raises(TimeoutError):
            lab.client.connect(lab.server.address, 80, timeout=0.3)
    else:
        assert read_to_end(lab.client.connect(lab.server.address, 80)) == b"the proxy\n"


@pytest.mark.parametrize("family", ["ipv6"])
def test_the_documents_own_words_leave_ipv6_alone(lab, netcat, tmp_path, start):
    lab.router.family = "ipv4"
    install(lab, "nft", tmp_path)
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-e", "cat", PROXY_PORT).listening()
    web = lab.server.listen(80)
    assert lab.dial(web).was_forwarded
    start("--tcp", "80")
    assert not lab.dial(web).was_forwarded


# 4. Application support


@pytest.mark.parametrize("way", ["nft", "limpid"])
def test_squid(lab, tmp_path, need, way):
    """`http_port … tproxy`, behind the document's commands and behind Limpid's one line."""
    need("squid", "squid")
    need("curl", "curl")
    install(lab, way, tmp_path)
    wildcard = {"ipv4": "0.0.0.0", "ipv6": "[::]"}[lab.family]
    loopback = {"ipv4": "127.0.0.1", "ipv6": "[::1]"}[lab.family]
    (tmp_path / "squid.conf").write_text(
        f"http_port {loopback if way == 'limpid' else wildcard}:{PROXY_PORT} tproxy\nhttp_port {loopback}:3130\nhttp_access allow all\n"
        f"cache deny all\naccess_log none\ncache_log /dev/null\npid_filename none\nvisible_hostname router\nshutdown_lifetime 0 seconds\n"
        f"pinger_enable off\nnetdb_filename none\ncache_store_log none\nlogfile_rotate 0\nmax_filedescriptors 1024\n")
    lab.router.start(real_proxies.squid(f"test{os.getpid()}", tmp_path / "squid.conf"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: f":{PROXY_PORT}" in lab.router.run("ss", "-Hltn").stdout, "squid listens", 30)
    server = lab.server.listen(80)
    fetching = Background(lab.client.run, "curl", "-s", "-i", f"http://{shown(lab.server.address, 80)}/page")
    connection, peer = server.accept()
    connection.settimeout(SECONDS)
    assert peer[0] == lab.client.address, "squid calls as the client"
    request = connection.recv(10_000)
    assert b"GET /page HTTP/1.1" in request and b"squid" in request.lower()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthe web")
    connection.close()
    answer = fetching.result().stdout
    assert answer.endswith("the web") and "Via: 1.1 router (squid" in answer
