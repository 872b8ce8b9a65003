"""`limpid exec`: non-local sockets for programs that know nothing of them, by what arrives at the other end."""

import errno
import os
import platform
import socket
import subprocess

import pytest

import limpid_process
from exec_process import (FOREIGN, FOREIGN_PORT, build_with_libc, build_without_libc, prelude, python, under_exec)
from lab import SECONDS
from peers import read_exactly, wait_until

LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}
PROXY_PORT = 3129


@pytest.fixture
def intercepting(lab):
    """The kernel set-up for a proxy of one's own on the router: connections to port 80, and replies to foreign addresses."""
    lab.router.run(limpid_process.BINARY, "rules", "apply", *limpid_process.with_backend("rules apply", ["--tcp", "80", "--listen-port", PROXY_PORT]))


@pytest.fixture
def delivering(lab):
    """The kernel document's set-up for sockets that are bound to foreign addresses: divert what belongs to one."""
    lab.router.nft("table inet divert { chain prerouting { type filter hook prerouting priority mangle;\n"
                   "meta l4proto { tcp, udp } socket transparent 1 meta mark set 1 accept\n}\n}\n")
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        lab.router.run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100")
        lab.router.run("ip", family, "route", "add", "local", everything, "dev", "lo", "table", "100")


def foreign(lab):
    return FOREIGN[lab.family]


def bind_in_python(lab):
    return python(prelude(lab.family) + "s = socket.socket(family)\ntry: s.bind((foreign, port)); s.listen()\n"
                                        "except OSError as error: sys.exit(error.errno)")


# --- sockets that are bound to an address of somebody else

def test_python_binds_to_a_foreign_address(lab):
    program = bind_in_python(lab)
    assert lab.router.run(*program, check=False).returncode == errno.EADDRNOTAVAIL, "the control: without limpid exec"
    lab.router.run(*under_exec(*program))


def test_a_statically_linked_program_binds_to_a_foreign_address(lab, need, tmp_path):
    need("gcc", "gcc")
    program = [build_with_libc(tmp_path), foreign(lab), FOREIGN_PORT]
    assert lab.router.run(*program, check=False).returncode == errno.EADDRNOTAVAIL
    lab.router.run(*under_exec(*program))


@pytest.mark.parametrize("convention", [64, 32, 102], ids=["syscall", "i386", "socketcall"])
def test_a_program_without_any_library_binds_to_a_foreign_address(lab, need, tmp_path, convention):
    need("gcc", "gcc")
    if platform.machine() != "x86_64":
        pytest.skip("the program speaks x86-64's and i386's system calls")
    program = build_without_libc(tmp_path, lab.family, convention)
    control = lab.router.run(program, check=False).returncode
    if control == errno.ENOSYS or control < 0:
        pytest.skip("this kernel runs no 32-bit calls (CONFIG_IA32_EMULATION)")
    assert control == errno.EADDRNOTAVAIL
    lab.router.run(*under_exec(program))


def test_an_ipv6_socket_binds_to_a_mapped_foreign_address(lab):
    lab.router.run(*under_exec(*python(prelude("ipv6") + "socket.socket(family).bind(('::ffff:222.173.190.239', port))")))


def test_nc_listens_on_a_foreign_address_and_the_client_reaches_it(lab, need, delivering):
    need("nc", "netcat-openbsd")
    nc = lab.router.start(under_exec("nc", "-l", foreign(lab), FOREIGN_PORT), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    client = reach(lab, foreign(lab), FOREIGN_PORT)
    client.sendall(b"from the client\n")
    assert nc.stdout.readline() == b"from the client\n"
    nc.stdin.write(b"from nobody's address\n")
    nc.stdin.flush()
    assert read_exactly(client, 22) == b"from nobody's address\n"


def test_nginx_serves_on_a_foreign_address_through_restarts_of_its_workers(lab, need, delivering, tmp_path):
    """It leaves its terminal, forks workers, and binds again at each reload: all under the same supervisor."""
    need("nginx", "nginx-light")
    need("curl", "curl")
    host = foreign(lab) if lab.family == "ipv4" else f"[{foreign(lab)}]"

    def configure(port):
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nworker_processes 2;\nevents {{}}\n"
            f"http {{ access_log off; server {{ listen {host}:{port}; return 200 '$server_addr $remote_addr'; }} }}\n")

    def fetch(port):
        return lab.client.run("curl", "--silent", "--show-error", "--max-time", SECONDS, f"http://{host}:{port}/").stdout

    configure(80)
    nginx = ["nginx", "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]
    lab.router.run(*under_exec(*nginx))
    pid = int((tmp_path / "pid").read_text())
    try:
        assert fetch(80) == f"{foreign(lab)} {lab.client.address}"
        configure(81)
        lab.router.run(*nginx, "-s", "reload")
        wait_until(lambda: is_reachable(lab, foreign(lab), 81), "nginx listens on the new port")
        assert fetch(81) == f"{foreign(lab)} {lab.client.address}"
    finally:
        os.kill(pid, 15)
    wait_until(lambda: not (tmp_path / "pid").exists(), "nginx ends")


# --- transparent listeners

@pytest.mark.not_ebpf("after `rules apply`, an address without a route counts as this host's own")
@pytest.mark.parametrize("program", ["nc", "python"])
def test_a_transparent_listener_accepts_an_intercepted_connection(lab, need, intercepting, program):
    need("nc", "netcat-openbsd")
    loopback = LOOPBACK[lab.family]
    argv = ["nc", "-l", loopback, PROXY_PORT] if program == "nc" else python(
        prelude(lab.family) + f"s = socket.socket(family)\ns.bind(({loopback!r}, {PROXY_PORT}))\ns.listen()\nc, _ = s.accept()\n"
        "print(*c.getsockname()[:2], flush=True)\nc.sendall(c.recv(100))")
    listener = lab.router.start(under_exec(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    listens_on(lab.router, PROXY_PORT)
    client = lab.client.connect(lab.nowhere, 80)
    client.sendall(b"hello\n")
    if program == "nc":
        assert listener.stdout.readline() == b"hello\n"
        listener.stdin.write(b"hello\n")
        listener.stdin.flush()
    else:
        assert listener.stdout.readline().decode().split() == [lab.nowhere, "80"], "the original destination"
    assert read_exactly(client, 6) == b"hello\n"


def test_without_exec_the_same_listener_gets_nothing(lab, intercepting):
    """The control: the rules want a transparent socket, so the connection is forwarded, to nowhere."""
    lab.router.listen(PROXY_PORT, address=LOOPBACK[lab.family])
    with pytest.raises(OSError):
        lab.client.connect(lab.nowhere, 80, timeout=2)


def test_a_program_that_asks_for_transparency_itself_needs_no_privilege(lab):
    """As HAProxy and nginx do for the sockets that they know to be transparent, as the user to whom they drop."""
    program = python(prelude(lab.family) + """
level, option = (0, 19) if family == socket.AF_INET else (41, 75)
for value in (1, 0, 1):
    s = socket.socket(family)
    s.setsockopt(level, option, value)
    assert s.getsockopt(level, option) == value
    s.bind((foreign, 0))
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try: s.setsockopt(level, option, b'')
except OSError as error: print(error.strerror)
""")
    assert lab.router.run(*under_exec(*program, options=("--user", "nobody"))).stdout == "Invalid argument\n"
    refused = lab.router.run(*under_exec(*program, options=("--user", "nobody", "--mark", "1")), check=False)
    assert "PermissionError" in refused.stderr, "only with --transparent"


# --- connections from a foreign address

@pytest.mark.not_ebpf("after `rules apply`, an address without a route counts as this host's own")
@pytest.mark.parametrize("program", ["nc", "python"])
def test_the_server_sees_the_foreign_source(lab, need, intercepting, program):
    need("nc", "netcat-openbsd")
    server = lab.server.listen(7000)
    argv = ["nc", lab.server.address, 7000] if program == "nc" else python(
        "c = socket.create_connection((sys.argv[1], 7000))\nprint(c.recv(100).decode(), end='', flush=True)\n"
        "c.sendall(sys.stdin.buffer.readline())", lab.server.address)
    client = lab.router.start(under_exec(*argv, options=("--bind-source", foreign(lab))),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    accepted, peer = server.accept()
    accepted.settimeout(SECONDS)
    assert peer[0] == foreign(lab)
    accepted.sendall(b"from the server\n")
    assert client.stdout.readline() == b"from the server\n"
    client.stdin.write(b"from nobody\n")
    client.stdin.flush()
    assert read_exactly(accepted, 12) == b"from nobody\n"
    accepted.close()


@pytest.mark.not_ebpf("after `rules apply`, an address without a route counts as this host's own")
def test_one_source_for_each_family_and_a_mapped_destination(lab, intercepting):
    """Java and others reach IPv4 addresses through IPv6 sockets."""
    server = lab.server.listen(7000, address="198.51.100.2", family="ipv4")
    lab.router.run(*under_exec(*python("s = socket.socket(socket.AF_INET6)\ns.connect(('::ffff:198.51.100.2', 7000))"),
                               options=("--bind-source", FOREIGN["ipv6"], "--bind-source", FOREIGN["ipv4"])))
    assert server.accept()[1][0] == FOREIGN["ipv4"]


@pytest.mark.not_ebpf("after `rules apply`, an address without a route counts as this host's own")
def test_a_fast_open_connection_has_the_foreign_source(lab, intercepting):
    server = lab.server.listen(7000)
    lab.router.run(*under_exec(*python(prelude(lab.family) + "s = socket.socket(family)\n"
                                       "s.sendto(b'early', socket.MSG_FASTOPEN, (sys.argv[1], 7000))", lab.server.address),
                               options=("--bind-source", foreign(lab))))
    accepted, peer = server.accept()
    assert peer[0] == foreign(lab)
    assert read_exactly(accepted, 5) == b"early"


def test_addresses_that_the_program_chose_and_loopback_stay(lab):
    """--bind-source is for sockets without an address, and not for this host's own services."""
    lab.router.run(*under_exec(*python(prelude(lab.family) + """
server = socket.socket(family); server.bind((sys.argv[1], 0)); server.listen()
own = socket.socket(family); own.connect(server.getsockname())
assert own.getsockname()[0] == sys.argv[1], own.getsockname()
chosen = socket.socket(family); chosen.bind((sys.argv[2], 0)); chosen.setblocking(False); chosen.connect_ex((sys.argv[3], 7000))
assert chosen.getsockname()[0] == sys.argv[2], chosen.getsockname()
local = socket.socket(socket.AF_UNIX); local.bind('')
""", LOOPBACK[lab.family], lab.wan, lab.server.address), options=("--bind-source", foreign(lab))))


@pytest.mark.parametrize("call", ["s.connect(there); s.send(b'x')", "s.sendto(b'x', there)", "s.sendmsg([b'x'], [], 0, there)"],
                         ids=["connect", "sendto", "sendmsg"])
@pytest.mark.parametrize("options", [("--udp",), ()], ids=["udp", "without"])
def test_datagrams_have_the_foreign_source_with_udp_only(lab, call, options):
    with lab.server.inside():
        server = socket.socket(socket.AF_INET if lab.family == "ipv4" else socket.AF_INET6, socket.SOCK_DGRAM)
    server.settimeout(SECONDS)
    server.bind(("", 7000))
    lab.router.run(*under_exec(*python(prelude(lab.family) + "s = socket.socket(family, socket.SOCK_DGRAM)\n"
                                       f"there = (sys.argv[1], 7000)\n{call}", lab.server.address),
                               options=("--bind-source", foreign(lab), *options)))
    assert server.recvfrom(10)[1][0] == (foreign(lab) if options else lab.wan)
    server.close()


def test_every_socket_gets_the_mark_unless_it_has_one(lab):
    lab.router.run(*under_exec(*python(prelude(lab.family) + """
for own in (0, 7):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, own)
    s.bind(('', 0))
    assert s.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == (own or 0x2a), own
"""), options=("--mark", "0x2a")))


def listens_on(host, port):
    wait_until(lambda: f":{port} " in host.run("ss", "--tcp", "--listening", "--numeric", "--no-header").stdout,
               f"somebody listens on port {port}")


def is_reachable(lab, address, port):
    try:
        lab.client.connect(address, port, timeout=1).close()
    except OSError:
        return False
    return True


def reach(lab, address, port):
    """A connection from the client, as soon as somebody listens."""
    listens_on(lab.router, port)
    return lab.client.connect(address, port)
