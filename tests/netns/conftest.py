"""The fixtures: a fresh client – router – server lab for each test, and `limpid run` on its router."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

import kernel_state
import limpid_process
import udp_exchange
from explain_process import Trace
from http3_peers import serve_http3
from lab import Lab
from limpid_process import Limpid
from netcat_process import Netcat
from peers import EchoServer

pytest_plugins = ["doctor_fixtures", "upstream_fixtures"]
from real_proxies import NEEDS, STREAM_MODULE, RealProxy
from succession import adopting_orphans


def pytest_configure():
    binary = limpid_process.BINARY
    if not binary:
        raise pytest.UsageError("LIMPID is not set: say LIMPID=build/dev/src/cli/limpid (see tests/netns/README.md)")
    if not os.access(binary, os.X_OK):
        raise pytest.UsageError(f"LIMPID={binary}: no such program")
    limpid_process.BINARY = os.path.abspath(binary)


# Unless all is asked for (LIMPID_TEST_ALL):
# About the iptables backends, where what belongs to the family and what belongs to the variant are apart: each variant is tested with one family, and
# each family with one variant.
THINNED = ("test_iptables.py", "test_doctor_iptables.py", "test_doctor_handmade.py", "test_explain_iptables.py",
           "test_explain_words.py", "test_trace_iptables.py")
# Long ones whose other parameters have little to do with the family: every combination of these with one family, in turn.
IN_TURN = ("test_bad_input.py", "test_cut_through.py", "test_cut_through_netfilter.py", "test_cut_through_udp.py", "test_cut_through_udp_bulk.py",
           "test_cut_through_udp_ends.py", "test_cut_through_udp_errors.py", "test_doctor_problems.py", "test_ebpf.py", "test_explain_safety.py",
           "test_hardening.py", "test_proxies.py", "test_proxy_protocol.py", "test_third_parties.py", "test_upstreams.py", "test_upstream_groups.py",
           "test_upstream_hostile.py", "test_upstream_tls.py", "test_control_verbs.py", "test_policy_clients.py",
           "test_upgrade.py", "test_upgrade_kinds.py")


def _family_of(item):
    return getattr(getattr(item, "callspec", None), "params", {}).get("family")


def _not_their_turn(items):
    """Of a test's combinations of parameters other than the family, the first is for IPv4, the second for IPv6, and so on; a test that has one only is for both."""
    combinations = {}
    for item in items:
        if item.path.name in IN_TURN and _family_of(item):
            others = str(sorted((name, str(value)) for name, value in item.callspec.params.items() if name != "family"))
            families = combinations.setdefault((item.path, item.originalname), {}).setdefault(others, {})
            families[_family_of(item)] = item
    return [families["ipv6" if turn % 2 == 0 else "ipv4"] for others in combinations.values() if len(others) > 1
            for turn, families in enumerate(others.values()) if len(families) == 2]


def _is_left_out(item, all_ids):
    # What the router's own connections meet is the same for both families, and takes long.
    if limpid_process.BACKEND == "ebpf" and item.path.name == "test_the_routers_own.py":
        return "ipv6" in item.nodeid and item.nodeid.replace("ipv6", "ipv4") in all_ids
    if item.path.name not in THINNED:
        return False
    pairs = (("iptables-nft", "ipv6", "ipv4"), ("iptables-legacy", "ipv4", "ipv6"))
    return any(variant in item.nodeid and family in item.nodeid and item.nodeid.replace(family, other) in all_ids
               for variant, family, other in pairs)


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("LIMPID_TEST_ALL"):
        all_ids = {item.nodeid for item in items}
        left_out = [item for item in items if _is_left_out(item, all_ids)] + _not_their_turn(items)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root, to make network namespaces"))


@pytest.fixture
def orphans(lab):
    """For tests of upgrades: whose parent ends, becomes pytest's child."""
    with adopting_orphans():
        yield


@pytest.fixture(autouse=True)
def other_backends(request, need):
    """A test that is about nft itself is skipped with another backend; its mark says why."""
    about = request.node.get_closest_marker("nftables")
    if about and limpid_process.BACKEND != "nftables":
        pytest.skip(f"about nftables: {about.args[0]}")
    cannot = request.node.get_closest_marker("not_ebpf")
    if cannot and limpid_process.BACKEND == "ebpf":
        pytest.skip(f"not by eBPF: {cannot.args[0]}")
    if (limpid_process.BACKEND == "ebpf" or request.node.path.name == "test_ebpf.py") and not limpid_process.has_ebpf():
        pytest.skip("this build has no eBPF backend: it was made without clang, bpftool or libbpf")
    if limpid_process.BACKEND.startswith("iptables"):
        need(limpid_process.BACKEND, "iptables")


@pytest.fixture(autouse=True)
def run_directory(monkeypatch):
    """Control sockets are files: tests beside each other, and whatever runs on this host, must not meet there."""
    path = tempfile.mkdtemp(prefix="limpid-run-", dir="/tmp")
    monkeypatch.setenv("LIMPID_RUN_DIRECTORY", path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.fixture
def lab(family, need):
    need("ip", "iproute2")
    need("nft", "nftables")
    made = Lab(family)
    yield made
    made.close()


@pytest.fixture
def need():
    """need(program, package): skips the test where a program is missing."""
    def check(program, package):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    return check


@pytest.fixture(autouse=True)
def flags_that_ebpf_refuses(request):
    """Cases whose parameters ask for what needs conntrack's help, or for a group."""
    values = " ".join(str(value) for value in getattr(getattr(request.node, "callspec", None), "params", {}).values())
    if limpid_process.BACKEND == "ebpf" and re.search(r"address\+port|prefer-port|--(exclude-)?gid", values):
        pytest.skip("not by eBPF: it keeps no port (conntrack) and knows no group; docs/ebpf.md")
    if limpid_process.BACKEND == "ebpf" and re.search(r"\bmitmproxy\b", values) and "rules" in request.node.module.__dict__:
        pytest.skip("not by eBPF: mitmproxy asks conntrack for the original destination; docs/ebpf.md")


@pytest.fixture
def launch(lab, tmp_path):
    """launch(arguments…) starts `limpid run` on the router and does not wait. However a test ends: instances that still run are
    stopped, and unless one was killed, nothing of theirs may be left in the kernel."""
    instances = []

    def run(*arguments, host=None, **options):
        folder = tmp_path / f"limpid{len(instances)}"
        folder.mkdir()
        if options.get("verb") != "rules watch" and "--drain-timeout" not in arguments:  # a test's own connections are still open when it ends
            arguments += ("--drain-timeout", "0")
        instances.append(Limpid(host or lab.router, folder, [str(argument) for argument in arguments], **options))
        return instances[-1]

    yield run
    for instance in instances:
        if instance.process.poll() is None:
            instance.stop()
        print(f"--- limpid {instance.pid}, exit status {instance.process.returncode}\n{instance.messages[-4000:]}")
        print("\n".join(instance.log[-20:]))
        assert not instance.sanitizer_report()
    if all(instance.process.returncode >= 0 for instance in instances):
        assert kernel_state.installed(lab.router) == []


@pytest.fixture
def start(launch):
    """start(arguments…) starts `limpid run` on the router and returns once it intercepts. Two workers unless told."""
    def run(*arguments, **options):
        if "--workers" not in arguments:
            arguments += ("--workers", "2")
        return launch(*arguments, **options).ready()
    return run


@pytest.fixture
def cut_udp(start):
    """cut_udp(arguments…): `limpid run --udp 7000-7010 --cut-through always`."""
    def run(*arguments, **options):
        return start("--udp", "7000-7010", "--cut-through", "always", *arguments, **options)
    return run


@pytest.fixture
def server(lab):
    """For UDP: the server's socket, on the port that udp_exchange asks."""
    return lab.server.datagrams(udp_exchange.PORT)


@pytest.fixture
def configure(tmp_path):
    """configure(tcp=443, rules=[…], sets={…}, upstreams={name: {…}}, **settings) writes a configuration and returns its path: the same one each time."""
    def write(rules=(), sets=None, upstreams=None, **settings):
        folder = tmp_path / "configuration"
        folder.mkdir(exist_ok=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        lines += ["rules = [", *(f"  {json.dumps(rule)}," for rule in rules), "]"]
        lines += ["[sets]", *(f"{name} = {json.dumps(members)}" for name, members in (sets or {}).items())]
        for name, group in (upstreams or {}).items():
            lines += [f"[upstreams.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in group.items())]
        (folder / "limpid.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder / "limpid.toml"
    return write


@pytest.fixture
def watch(launch):
    """watch(arguments…) starts `limpid rules watch` on the router and returns once the rules are there."""
    def run(*arguments, **options):
        return launch(*arguments, verb="rules watch", **options).ready()
    return run


@pytest.fixture
def relay(launch):
    """relay(arguments…) starts `limpid relay` on the router and returns once it serves. Two workers unless told."""
    def run(*arguments, **options):
        if "--workers" not in arguments:
            arguments = ("--workers", "2", *arguments)
        if "--chroot" in arguments:
            options = {"env": limpid_process.environment_without_leak_check(), **options}
        return launch(*arguments, verb="relay", **options).ready()
    return run


@pytest.fixture
def echo(lab):
    """echo(port) runs an echo server on the server."""
    servers = []

    def serve(port, **options):
        servers.append(EchoServer(lab.server.listen(port, **options)))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def netcat(lab, tmp_path):
    """netcat(host, arguments…, stdin=…) starts `limpid nc` on a host of the lab."""
    started = []

    def run(host, *arguments, **options):
        folder = tmp_path / f"netcat{len(started)}"
        folder.mkdir()
        started.append(Netcat(host, folder, arguments, **options))
        return started[-1]

    yield run
    for each in started:
        print(f"--- limpid nc {' '.join(each.arguments)}: {each.process.poll()}\n{each.messages[-2000:]}")
        assert not limpid_process.has_sanitizer_report(each.messages)


@pytest.fixture
def trace(lab, tmp_path):
    """trace(arguments…) runs `limpid trace --json` on the router. Nothing of it may be left there."""
    started = []

    def run(*arguments, text=False):
        started.append(Trace(lab, tmp_path / f"trace{len(started)}", *arguments, *([] if text else ["--json"])))
        return started[-1]

    yield run
    for each in started:
        assert each.stop() == limpid_process.DONE
    if started:
        assert "limpid__trace" not in lab.router.run("nft", "list", "tables").stdout


@pytest.fixture
def folder():
    """One that users without privileges may read."""
    path = Path(tempfile.mkdtemp(prefix="limpid-proxy-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def proxy(lab, folder, need):
    """proxy(name, flags…) writes the proxy's configuration; start() starts it."""
    made = []

    def make(name, *flags, **options):
        need(*NEEDS[name])
        need("curl", "curl")
        if name == "nginx" and not STREAM_MODULE.exists():
            pytest.skip("nginx has no stream module here: apt-get install libnginx-mod-stream")
        made.append(RealProxy(name, lab, folder, flags, **options))
        return made[-1]

    yield make
    for each in made:
        if each.process:
            each.kill()
            print(f"--- {each.name}\n{each.said()}")


@pytest.fixture
def http3(lab, need, tmp_path):
    """An HTTP/3 server with a file of 3 MB. http3() is what it has logged so far."""
    need("gtlsserver", "ngtcp2-server")
    need("gtlsclient", "ngtcp2-client")
    need("openssl", "openssl")
    return serve_http3(lab, tmp_path)
