"""The units of packaging/systemd: valid for systemd, and their commands, run as it would run them, do what they are for."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import limpid_process
import udp_exchange
from another_proxy import TransparentProxy
from kernel_state import difference, installed, snapshot
from peers import exchange, wait_until
from supervisor import Supervisor
from unit_confinement import confined, merged

UNITS = Path(os.environ.get("LIMPID_BUILD", Path(limpid_process.BINARY or ".").resolve().parents[2])) / "systemd"
RULES, WATCH = "limpid-rules@.service", "limpid-rules-watch@.service"
# Instances of each unit, as systemctl names them.
PROXY = {"limpid.service": "limpid.service", "limpid@web.service": "limpid@.service"}
# Tenths: what `systemd-analyze security` says of a unit that can be harmed by little.
MOST_EXPOSED = 20
pytestmark = pytest.mark.skipif(not UNITS.is_dir(), reason="a build without units: LIMPID_BUILD is not set")


class Unit:
    """An instance of a template, with the settings file that its own comment shows."""

    def __init__(self, template, instance, more=""):
        self._text = (UNITS / template).read_text()
        self._instance = instance
        example, = re.findall(r"^#\s+echo '(.*)' > /etc/default/limpid-rules-squid$", self._text, re.MULTILINE)
        key, _, value = (example + more).partition("=")
        self._environment = {"LIMPID_FOR": instance, key: value}
        assert f"EnvironmentFile=/etc/default/limpid-rules-{'%i'}" in self._text

    def command(self, key):
        """Words of the one line with this key: %i, ${NAME} as one word, $NAME as words (systemd.service(5))."""
        line, = re.findall(rf"^{key}=(.*)$", self._text, re.MULTILINE)
        words = []
        for word in line.replace("%i", self._instance).split():
            if match := re.fullmatch(r"\$(\w+)", word):
                words += shlex.split(self._environment.get(match[1], ""))
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda m: self._environment.get(m[1], ""), word))
        assert Path(words[0]).is_absolute() and words[0].endswith("/sbin/limpid")
        return [*confined(self._text), limpid_process.BINARY, *words[1:]]


def with_program(template):
    """A unit whose program is there."""
    return re.sub(r"^(Exec\w+=)\S+", rf"\1{limpid_process.BINARY}", (UNITS / template).read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("unit", PROXY)
def test_the_proxys_own_units_are_valid(family, tmp_path, need, unit):
    need("systemd-analyze", "systemd")
    text = with_program(PROXY[unit])
    assert not re.search(r"@[A-Z_]+@", text), "everything has been filled in"
    (tmp_path / unit).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "limpid" in line]) == (0, []), done.stderr


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("template", [RULES, WATCH, *PROXY.values()])
def test_systemd_finds_little_that_is_exposed(family, tmp_path, need, template):
    need("systemd-analyze", "systemd")
    name = template.replace("@.", "@web.")
    (tmp_path / name).write_text(with_program(template))
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={MOST_EXPOSED}", tmp_path / name],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", PROXY)
def test_the_proxy_serves_reloads_and_ends_with_its_units_privileges(lab, need, tmp_path, unit):
    need("setpriv", "util-linux")
    text = (UNITS / PROXY[unit]).read_text()
    configuration = tmp_path / "web.toml"
    configuration.write_text('tcp = "80"\nudp = "7000-7010"\nrules = []\n')
    supervisor = Supervisor(lab.router, tmp_path, abstract=False)

    def command(key):
        words = merged(text, key)
        assert Path(words[0]).is_absolute() and words[0].endswith("/sbin/limpid")
        words = [word.replace("%i", "web") for word in words[1:]]
        return [*confined(text), limpid_process.BINARY, *(str(configuration) if word.startswith("/etc/limpid/") else word for word in words)]

    before = snapshot(lab.router)
    with open(tmp_path / "said", "wb") as said:
        process = lab.router.start(command("ExecStart"), stderr=said, stdout=said, env=supervisor.environment)
    try:
        supervisor.await_message("READY")
        connection = lab.dial_relayed(lab.server.listen(80))
        exchange(connection.client, connection.server)
        server, client = lab.server.datagrams(udp_exchange.PORT), lab.client.datagrams()
        client.sendto(b"question", (lab.server.address, udp_exchange.PORT))
        payload, peer = server.recvfrom(100)
        server.sendto(payload + b" answered", peer)
        assert client.recvfrom(100)[0] == b"question answered"
        configuration.write_text('tcp = "80,81"\nudp = "7000-7010"\nrules = []\n')
        assert lab.router.run(*command("ExecReload")).stdout == "reloaded: 0 rules\n"
        connection.client.close()
        connection.server.close()
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(10)
        supervisor.close()
    assert status == 0, (tmp_path / "said").read_text()
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("template", [RULES, WATCH])
@pytest.mark.parametrize("instance", ["squid", "haproxy", "trafficserver"])
def test_systemd_finds_nothing_wrong(family, tmp_path, need, template, instance):
    need("systemd-analyze", "systemd")
    # A line that systemd does not know would be a mistake, a program that is not installed yet is none.
    text = with_program(template)
    assert not re.search(r"@[A-Z_]+@", text), "everything has been filled in"
    name = template.replace("@", f"@{instance}")
    (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, timeout=60,
                          check=False)
    ours = [line for line in done.stderr.splitlines() if "limpid" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_start_reload_and_stop(lab, need):
    need("setpriv", "util-linux")
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        lab.router.sysctl(key, 0)
    before = snapshot(lab.router)
    unit = Unit(RULES, "squid", more=" --enable-forwarding")
    started = lab.router.run(*unit.command("ExecStart"))
    assert "installed nft table inet limpid_squid" in started.stdout
    web = lab.server.listen(80)
    with TransparentProxy(lab, 3129):
        first = lab.dial_relayed(web)
        assert "nothing listens on port 3129" not in lab.router.run(*unit.command("ExecReload")).stderr
        exchange(first.client, first.server)
        second = lab.dial_relayed(web)
        exchange(second.client, second.server)
    lab.router.run(*unit.command("ExecStop"))
    assert difference(before, snapshot(lab.router)) == []


def test_a_listener_that_is_not_transparent_fails_the_unit(lab, need):
    need("setpriv", "util-linux")
    with TransparentProxy(lab, 3129, transparent=False):
        failed = lab.router.run(*Unit(RULES, "squid").command("ExecStart"), check=False)
        assert failed.returncode == limpid_process.FAILURE and "tproxy` in /etc/squid/conf.d/limpid.conf" in failed.stderr
    assert installed(lab.router) == []


def test_the_watching_unit(lab, need, tmp_path):
    need("setpriv", "util-linux")
    before = snapshot(lab.router)
    unit = Unit(WATCH, "haproxy")
    with open(tmp_path / "said", "wb") as said:
        process = lab.router.start(unit.command("ExecStart"), stderr=said, stdout=said)
    said = (tmp_path / "said").read_text
    wait_until(lambda: "watching the rules" in said() or process.poll() is not None, "it watches")
    with TransparentProxy(lab, 3129):
        lab.router.nft("delete table inet limpid_haproxy\n")
        wait_until(lambda: "table inet limpid_haproxy" in "\n".join(installed(lab.router)), "put back")
        connection = lab.dial_relayed(lab.server.listen(80))
        exchange(connection.client, connection.server)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, said()
    assert difference(before, snapshot(lab.router)) == []
