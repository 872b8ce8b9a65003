"""`limpid rules … --for PROXY` with the real programs, started out of the lines that it prints."""

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest

import limpid_process
from kernel_state import difference, installed, snapshot
from limpid_process import FAILURE
from peers import wait_until
from real_proxies import NEEDS, PORT, STREAM_MODULE, Origin, fetch, rules

DOCS = Path(__file__).parents[2] / "docs"
each_proxy = pytest.mark.parametrize("name", NEEDS)
one_family = pytest.mark.parametrize("family", ["ipv4"], indirect=True)  # where both families are in one test


@pytest.fixture
def at_the_end():
    with contextlib.ExitStack() as things:
        yield things.callback


def expected_source(name, lab):
    return lab.wan if name == "mitmproxy" else lab.client.address


@each_proxy
def test_the_printed_lines_are_all_that_it_takes(lab, proxy, name):
    before = snapshot(lab.router)
    made = proxy(name)
    first = rules(lab.router, "apply", *made.flags)
    assert "nothing listens on port 3129 yet" in first.stderr
    for file in made.printed["files"]:
        assert "\n".join(file["lines"]) in first.stdout, "printed while it is not there yet"
    made.start()
    again = rules(lab.router, "apply", *made.flags)
    assert (again.stderr, again.stdout.count("\n")) == ("", 1), "there, and transparent: nothing more to say"
    assert rules(lab.router, "diff", *made.flags).stdout == ""

    origin, local_port = Origin(lab), lab.client_port()
    assert fetch(lab.client, lab.server.address, local_port=local_port) == (0, "the web")
    assert origin.last()[0] == expected_source(name, lab)
    assert origin.last()[1] != local_port, "it was forwarded, not proxied"
    assert len(origin.seen) == 1

    rules(lab.router, "remove")
    made.kill()
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("name", [name for name in NEEDS if name != "trafficserver"])  # which cannot
@one_family
def test_with_its_own_address_towards_the_origin(lab, proxy, name):
    made = proxy(name, "--source", "none", **({"user": "haproxy"} if name == "haproxy" else {})).start()
    rules(lab.router, "apply", *made.flags)
    origin = Origin(lab)
    assert fetch(lab.client, lab.server.address) == (0, "the web")
    assert origin.last()[0] == lab.wan


def test_an_haproxy_that_never_was_root(lab, proxy):
    """`limpid exec --user` lends it what `user haproxy` would take away."""
    made = proxy("haproxy", "--local", exec_user="haproxy").start()
    assert rules(lab.router, "apply", *made.flags).stderr == "", "and with local traffic its user tells it from others"
    origin = Origin(lab)
    assert fetch(lab.client, lab.server.address, local_port=lab.client_port()) == (0, "the web")
    assert origin.last()[0] == lab.client.address


@pytest.mark.not_ebpf("it keeps no port (conntrack)")
@pytest.mark.parametrize("name", ["haproxy", "nginx", "nginx-http"])
def test_with_the_clients_port_as_well(lab, proxy, name):
    """Both legs have one 5-tuple: the printed mark keeps them out of conntrack, which is at work here."""
    lab.router.nft("table inet tracked {\n chain c {\n  type filter hook prerouting priority -150;\n  ct state new accept\n }\n}\n")
    made = proxy(name, "--source", "address+port").start()
    rules(lab.router, "apply", *made.flags, "--fail", "closed")
    origin, local_port = Origin(lab), lab.client_port()
    for _ in range(2):
        local_port = lab.client_port()
        assert fetch(lab.client, lab.server.address, local_port=local_port) == (0, "the web")
        assert origin.last() == (lab.client.address, local_port)
    made.kill()
    assert fetch(lab.client, lab.server.address)[0] != 0, "fail-closed: so it was the proxy that answered"


# mitmproxy has no line against it: without the rules it does call itself.
@pytest.mark.parametrize("name, by", [*((name, by) for name in ("haproxy", "nginx", "nginx-http", "trafficserver")
                                        for by in ("its lines", "its rules")), ("mitmproxy", "its rules")])
def test_who_dials_the_listener_itself_does_not_start_a_loop(lab, proxy, name, by):
    made = proxy(name).start()
    if by == "its rules":
        rules(lab.router, "apply", *made.flags)
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]
    for host, address in ((lab.router, loopback), (lab.client, lab.router.address)):
        status, said = fetch(host, address, port=PORT)
        assert status != 0 or "the web" not in said
        assert made.descriptors() < 200
    rules(lab.router, "apply", *made.flags)
    Origin(lab)
    assert fetch(lab.client, lab.server.address) == (0, "the web")


# Mistakes: what to change in the printed lines, and what the refusal has to name.
OPAQUE = {
    "squid": (lambda text: text.replace(" tproxy", ""), "`http_port 127.0.0.1:3129 tproxy`"),
    "haproxy": (lambda text: text.replace(" transparent", ""), "`bind 127.0.0.1:3129 transparent`"),
    "nginx": (lambda text: text.replace("limpid exec -- ", ""), "`limpid exec -- nginx`"),
    "nginx-http": (lambda text: text.replace("limpid exec -- ", ""), "`limpid exec -- nginx`"),
    "trafficserver": (lambda text: text.replace(":tr-full", ""), "`3129:tr-full`"),
    "mitmproxy": (lambda text: text.replace("limpid exec -- ", ""), "`limpid exec -- mitmdump --mode transparent --listen-port 3129`"),
}


@each_proxy
@one_family
def test_a_listener_that_is_not_transparent_is_refused_with_its_remedy(lab, proxy, name):
    spoil, remedy = OPAQUE[name]
    wrong = proxy(name, spoil=spoil).start()
    before = snapshot(lab.router)
    refused = rules(lab.router, "apply", *wrong.flags, check=False)
    assert refused.returncode == FAILURE
    assert "without IP_TRANSPARENT" in refused.stderr and remedy in refused.stderr and "--unchecked" in refused.stderr
    assert difference(before, snapshot(lab.router)) == [], "nothing has been installed"
    Origin(lab)
    anyway = rules(lab.router, "apply", *wrong.flags, "--unchecked")
    assert "without IP_TRANSPARENT" in anyway.stderr
    if limpid_process.BACKEND != "ebpf":  # whose programs cannot tell, and hand it the connection
        assert fetch(lab.client, lab.server.address) == (0, "the web"), "forwarded, as the message said"
    wrong.kill()
    right = proxy(name).start()
    assert rules(lab.router, "apply", *right.flags).stderr == ""
    origin, local_port = Origin(lab, 8080), lab.client_port()
    rules(lab.router, "apply", *[flag if flag != "80" else "8080" for flag in right.flags])
    if name not in ("trafficserver", "squid"):  # which mind what a web server's port is
        assert fetch(lab.client, lab.server.address, port=8080, local_port=local_port) == (0, "the web")
        assert origin.last()[1] != local_port


def test_nginx_relays_datagrams_to_one_server(lab, folder, need, at_the_end):
    """The block of docs/with-nginx.md: as its client, which sees the answer come from whom it asked."""
    need("nginx", "nginx")
    if not STREAM_MODULE.exists():
        pytest.skip("nginx has no stream module here: apt-get install libnginx-mod-stream")
    block, = re.findall(r"^```\n(stream \{\n(?:(?!```).)*? udp;\n.*?)^```$", (DOCS / "with-nginx.md").read_text(), re.M | re.S)
    if lab.family == "ipv6":
        block = block.replace("listen 53 udp", "listen [::]:53 udp ipv6only=on").replace("198.51.100.2", f"[{lab.server.address}]")
    (folder / "nginx.conf").write_text(f"load_module {STREAM_MODULE};\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/said;\n"
                                       f"user www-data;\nevents {{ }}\n{block}")
    nginx = lab.router.start([limpid_process.BINARY, "exec", "--", "nginx", "-c", folder / "nginx.conf"], start_new_session=True)
    at_the_end(os.killpg, nginx.pid, signal.SIGKILL)  # its workers too
    wait_until(lambda: ":53 " in lab.router.run("ss", "-Hlun").stdout, "nginx is there")
    only = {"ipv4": "--ipv4-only", "ipv6": "--ipv6-only"}[lab.family]
    assert rules(lab.router, "apply", "--for", "custom", "--udp", "53", "--to-port", "53", only).stderr == ""
    server, client = lab.server.datagrams(53), lab.client.datagrams()
    # After `rules apply` --backend ebpf leaves alone what has no route.
    for dialled in (lab.server.address,) if limpid_process.BACKEND == "ebpf" else (lab.server.address, lab.nowhere):
        client.sendto(b"question", (dialled, 53))
        question, peer = server.recvfrom(100)
        assert (question, peer[0]) == (b"question", lab.client.address) and peer[1] != client.getsockname()[1]
        server.sendto(b"answer", peer)
        answer, peer = client.recvfrom(100)
        assert (answer, peer[:2]) == (b"answer", (dialled, 53))


@one_family
def test_show_prints_them_as_comments_and_stays_a_script(lab, proxy):
    made = proxy("squid")
    shown = rules(lab.router, "show", *made.flags).stdout
    assert "#   http_port 127.0.0.1:3129 tproxy\n" in shown
    lab.router.run("sh", "-e", "-c", shown)
    assert installed(lab.router)
    rules(lab.router, "remove")
