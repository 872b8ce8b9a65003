"""With the rights of limpid.service and no others: what it gives away, what it cannot learn and says so, and what the drop-ins of packaging/systemd/drop-ins allow."""

import os
import shutil
from pathlib import Path

import pytest

import limpid_process
from kernel_state import installed
from local_programs import ALICE, Teller, talk
from peers import exchange, wait_until
from succession import upgrade
from unit_confinement import confined

UNITS = Path(os.environ.get("LIMPID_BUILD", Path(limpid_process.BINARY or ".").resolve().parents[2])) / "systemd"
DROP_INS = Path(__file__).resolve().parents[2] / "packaging" / "systemd" / "drop-ins"
pytestmark = [pytest.mark.nftables("other backends need more than a unit allows"),
              pytest.mark.skipif(not UNITS.is_dir(), reason="a build without units: LIMPID_BUILD is not set"),
              pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed: apt-get install util-linux")]


def unit(*drop_ins, template="limpid.service"):
    """What to put before a command, to run it as the unit would, with these drop-ins."""
    return confined("\n".join([(UNITS / template).read_text(), *((DROP_INS / name).read_text() for name in drop_ins)]))


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def status_of(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def test_the_process_that_looks_names_up_has_no_capability(start, configure):
    limpid = start("-c", configure(tcp=80, rules=["domain(a.example) -> direct(by-name: yes)"]), wrapper=unit())
    names, = [pid for pid in wait_until(lambda: children(limpid.process), "its children") if status_of(pid)["Name"] == "limpid-names"]
    assert int(status_of(limpid.pid)["CapEff"], 16), "the service itself has some"
    for kind in ("CapEff", "CapPrm", "CapInh"):
        assert int(status_of(names)[kind], 16) == 0, kind
    assert status_of(names)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.usefixtures("orphans")
def test_an_upgrade_needs_no_more_and_its_successor_has_no_less(lab, start, configure):
    limpid = start("-c", configure(tcp=80, udp=7000), wrapper=unit())
    connection = lab.dial_relayed(lab.server.listen(80))
    before = {key: value for key, value in status_of(limpid.pid).items() if key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
    upgrade(lab, limpid)
    exchange(connection.client, connection.server)
    wait_until(lambda: limpid.messages.count("msg=intercepting") == 2, "it has renewed the rules")
    assert {key: status_of(limpid.pid)[key] for key in before} == before
    assert limpid.stop() == 0 and installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("condition", ["process(python3, python3.11, python)", f"gid({ALICE})", "cgroup(/)"])
def test_a_condition_that_cannot_be_met_is_warned_of(lab, start, configure, condition):
    """And is met as soon as the drop-in of the warning is there."""
    if condition.startswith("cgroup") and " - cgroup2 " not in Path("/proc/self/mountinfo").read_text(encoding="ascii"):
        pytest.skip("no cgroup v2 is mounted")
    if limpid_process.is_sanitized():
        pytest.skip("a sanitizer opens files below /proc with more rights than a unit has")
    Teller(lab)
    path = configure(tcp=80, local=True, rules=["dport(81) -> reject"])
    limpid = start("-c", path, wrapper=unit())
    assert "needs=" not in limpid.messages, "no rule asks"
    configure(tcp=80, local=True, rules=[f"{condition} -> reject", "otherwise -> direct"])
    lab.router.run(limpid_process.BINARY, "reload")
    warning, = wait_until(lambda: [line for line in limpid.messages.splitlines() if "needs=" in line], "the warning")
    assert "CAP_DAC_READ_SEARCH" in warning and "client-programs.conf -t /etc/systemd/system/limpid.service.d" in warning
    assert talk(lab, user=ALICE, check=False).returncode == 0
    assert limpid.flow()["rule"] == "2"
    limpid.stop()

    allowed = start("-c", path, wrapper=unit("client-programs.conf"))
    assert "needs=" not in allowed.messages
    assert "ConnectionResetError" in talk(lab, user=ALICE, check=False).stderr
    assert allowed.flow()["rule"] == "1"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_password_that_root_may_not_read_is_told_with_its_cure(lab, launch, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    os.chown(secret, ALICE, ALICE)
    limpid = launch("--tcp", "80", "--upstream", f"socks5://me@{lab.server.address}:1080?password-file={secret}", wrapper=unit())
    assert limpid.process.wait(10) == limpid_process.USAGE
    assert f"{secret}: Permission denied (chown root {secret} && chmod 600 {secret}" in limpid.messages
    os.chown(secret, 0, 0)
    assert launch("--tcp", "80", "--upstream", f"socks5://me@{lab.server.address}:1080?password-file={secret}", wrapper=unit()).ready().stop() == 0


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_stale_socket_in_a_folder_that_is_read_only_keeps_no_rules(lab, start):
    folder = os.environ["LIMPID_RUN_DIRECTORY"]
    limpid = start("--tcp", "80")
    limpid.kill()
    assert installed(lab.router) and os.listdir(folder) == ["ctl.sock"]
    read_only = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"', folder]
    done = lab.router.run(*read_only, *unit(template="limpid-rules@.service"), limpid_process.BINARY, "rules", "remove")
    assert "removed" in done.stdout and "Read-only file system" in done.stderr
    assert installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_iptables_legacy_takes_a_drop_in_and_a_lock_that_is_there_before(lab, launch, need):
    need("iptables-legacy-restore", "iptables")
    # /run as a unit sees it, with the lock that tmpfiles.d makes, and without.
    run = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && if [ "$0" = yes ]; then touch /run/xtables.lock && mount --bind /run/xtables.lock /run/xtables.lock; fi '
           '&& mount -o remount,bind,ro /run && exec "$@"']
    arguments = ("--tcp", "80", "--backend", "iptables-legacy", "--control", "none")
    for lock, rights, missing in (("yes", unit(), "drop-in iptables.conf"), ("no", unit("iptables.conf"), "systemd-tmpfiles --create limpid.conf")):
        refused = launch(*arguments, wrapper=[*run, lock, *rights])
        assert refused.process.wait(10) != 0
        assert missing in refused.messages, refused.messages
    assert launch(*arguments, wrapper=[*run, "yes", *unit("iptables.conf")]).ready().stop() == 0
    rules = ("--tcp", "80", "--to-port", "3129", "--backend", "iptables-legacy", "--fail", "closed", "--unchecked")
    of_rules = [*run, "yes", *unit("iptables.conf", template="limpid-rules@.service"), limpid_process.BINARY, "rules"]
    assert "installed" in lab.router.run(*of_rules, "apply", *rules).stdout
    lab.router.run(*of_rules, "remove")
    assert installed(lab.router) == []
