"""What cannot work is said in one line that helps, with the right exit status, and the kernel stays as it was."""

import os
import shutil

import pytest

import limpid_process
from kernel_state import difference, installed, snapshot
from limpid_process import FAILURE, UNSUPPORTED, USAGE

pytestmark = pytest.mark.parametrize("family", ["ipv4"], indirect=True)  # nothing here depends on it

WRONG_USE = [
    # arguments, what the line must name
    ([], "--tcp"),
    (["--tcp", ""], "--tcp"),
    (["--tcp", "80,"], "--tcp"),
    (["--tcp", "80", "--tcp", ",443"], "--tcp"),
    (["--tcp", "0"], "0"),
    (["--tcp", "65536"], "65536"),
    (["--tcp", "-1"], "-1"),
    (["--tcp", "http"], "http"),
    (["--tcp", "90-80"], "90-80"),
    (["--tcp", "80-"], "80-"),
    (["--tcp", "80;drop"], "80;drop"),
    (["--tcp", "80", "--no-such-flag"], "limpid: --no-such-flag: no such option (see limpid run --help)"),
    (["--tcp", "80", "stray"], "limpid: stray: one argument too many (see limpid run --help)"),
    (["--tcp", "80", "--udp"], "limpid: --udp: PORTS missing (see limpid run --help)"),
    (["--tcp", "80", "--name", "a", "--name", "b"], "limpid: --name: given twice"),
    (["--tcp", "80", "--from", "an-interface-name-too-long"], "an-interface-name-too-long"),
    (["--tcp", "80", "--from", 'lan"; flush ruleset; "'], "flush ruleset"),
    (["--tcp", "80", "--from", "10.0.0.0/33"], "10.0.0.0/33"),
    (["--tcp", "80", "--from", "10.0.0.1/8"], "10.0.0.0/8"),
    (["--tcp", "80", "--from", "2001:db8::/129"], "2001:db8::/129"),
    (["--tcp", "80", "--to-net", "300.1.1.1"], "300.1.1.1"),
    (["--tcp", "80", "--to-net", "lan"], "lan"),
    (["--tcp", "80", "--exclude", "10.0.0.0/8/8"], "10.0.0.0/8/8"),
    (["--tcp", "80", "--exclude", ""], "--exclude"),
    (["--tcp", "80", "--source", "client"], "client"),
    (["--tcp", "80", "--fail", "shut"], "shut"),
    (["--tcp", "80", "--target", "198.51.100.2"], "198.51.100.2"),
    (["--tcp", "80", "--target", "198.51.100.2:0"], "198.51.100.2:0"),
    (["--tcp", "80", "--target", "198.51.100.2:99999"], "--target 198.51.100.2:99999"),
    (["--tcp", "80", "--target", "[2001:zz::1]:80"], "--target [2001:zz::1]:80"),
    (["--tcp", "80", "--target", "0.0.0.0:80"], "no host has this address"),
    (["--tcp", "80", "--target", "[fe80::1]:80"], "add the interface"),
    (["--tcp", "80", "--udp-timeout", "10"], ["--udp-timeout:", "add --udp"]),
    (["--tcp", "80", "--max-udp-sessions", "10"], "--max-udp-sessions:"),
    (["--tcp", "80", "--exclude-uid", "root"], ["--exclude-uid:", "give --local"]),
    (["--tcp", "80", "--gid", "root"], "--gid:"),
    (["--tcp", "80", "--target", "2001:db8::1:80"], "2001:db8::1:80"),
    (["--tcp", "80", "--workers", "0"], "--workers"),
    (["--tcp", "80", "--workers", "many"], "many"),
    (["--tcp", "80", "--listen-port", "65536"], "65536"),
    (["--tcp", "80", "--listen-port", "x"], "x"),
    (["--tcp", "80", "--mark", "0x10/0x3"], "0x10/0x3"),
    (["--tcp", "80", "--mark", "1/1"], "1/1"),
    (["--tcp", "80", "--mark", "0/3"], "0/3"),
    (["--tcp", "80", "--mark", "blue"], "blue"),
    (["--tcp", "80", "--table", "0"], "--table"),
    (["--tcp", "80", "--table", "255"], "255"),
    (["--tcp", "80", "--table", "main"], "main"),
    (["--tcp", "80", "--priority", "-5"], "-5"),
    (["--tcp", "80", "--priority", "40000"], "40000"),
    (["--tcp", "80", "--confirm", "0"], "--confirm"),
    (["--tcp", "80", "--confirm", "soon"], "soon"),
    (["--tcp", "80", "--log-format", "xml"], "xml"),
    (["--tcp", "80", "--name", "UPPER"], "UPPER"),
    (["--tcp", "80", "--name", "a-name-that-is-much-too-long"], "a-name-that-is-much-too-long"),
    (["--tcp", "80", "--name", "a\nb"], "--name"),
    (["--tcp", "80", "--connect-timeout", "-1"], "--connect-timeout"),
    (["--tcp", "80", "--idle-timeout", "x"], "--idle-timeout"),
    (["--tcp", "80", "--max-flows", "0"], "--max-flows"),
    (["--tcp", "80", "--ipv4-only", "--ipv6-only"], "--ipv6-only"),
    (["--tcp", "80", "--quiet", "--verbose"], "--quiet"),
]


def fails(lab, arguments, status, says, prefix=()):
    """Runs it; checks status, that there is one line, what it says, and that the kernel is unchanged."""
    before = snapshot(lab.router)
    done = lab.router.run(*prefix, limpid_process.BINARY, *arguments, check=False)
    errors = [line for line in done.stderr.splitlines() if "level=info" not in line and "level=warning" not in line]
    assert done.returncode == status, done
    assert len(errors) == 1, done.stderr
    for word in [says] if isinstance(says, str) else says:
        assert word in errors[0], errors[0]
    assert done.stdout == ""
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("arguments, says", WRONG_USE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use(lab, arguments, says):
    fails(lab, ["run", *arguments], USAGE, says)


def test_an_interface_that_does_not_exist_yet_is_a_warning(start):
    """A tunnel may come up later; a typing error is seen."""
    warning = [line for line in start("--tcp", "80", "--from", "no-such-if0").messages.splitlines() if "level=warning" in line]
    assert len(warning) == 1 and "no-such-if0" in warning[0]


@pytest.mark.parametrize("arguments, says", [
    (["walk"], "walk: no such command or option (see limpid --help)"),
    (["--walk", "run"], "--walk: no such option"),
    (["rules"], "limpid rules: no command (one of: show, config, apply, watch, remove, diff)"),
    (["rules", "paint"], "paint: no such command or option (see limpid rules --help)"),
    (["rules", "show"], "--tcp"),
    (["rules", "show", "--bogus"], "limpid: --bogus: no such option (see limpid rules show --help)"),
    (["doctor", "--from", "lan"], "--from: it is part of a plan"),
    (["doctor", "--via", "no-such-if0"], "--via no-such-if0: there is no such interface"),
    (["doctor", "--as", "192.0.2.2"], "--target, --as: they belong together"),
    (["explain", "tcp", "198.51.100.2:80", "--local", "--uid", "no-such-user"], "--uid no-such-user: no user of that name"),
    (["explain", "tcp", "198.51.100.2:80", "--local", "--gid", "no-such-group"], "--gid no-such-group: no group of that name"),
    (["explain", "tcp", "192.0.2.2"], "tcp 192.0.2.2: either SRC or DST is missing"),
    (["completion"], "limpid: SHELL: missing (bash, zsh or fish"),
    (["lab", "run", "--servers", "9", "--", "true"], "--servers 9: not a number of servers"),
    (["lab", "run", "--servers", "some", "--", "true"], "--servers some"),
    (["lab", "run", "--servers"], "--servers: N missing (see limpid lab run --help)")],
                         ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_verbs(lab, arguments, says):
    fails(lab, arguments, USAGE, says)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_busy_port_names_who_holds_it(lab, address):
    lab.router.listen(3129, address=address, family="ipv6" if ":" in address else "ipv4")
    fails(lab, ["run", "--tcp", "80", "--listen-port", "3129"], FAILURE, ["3129", str(os.getpid())])


def test_a_busy_table(lab):
    lab.router.run("ip", "route", "add", "10.9.0.0/16", "dev", "wan", "table", "500")
    fails(lab, ["run", "--tcp", "80", "--table", "500"], FAILURE, "500")


def test_a_table_that_a_rule_uses(lab):
    lab.router.run("ip", "rule", "add", "from", "10.9.0.0/16", "lookup", "501")
    fails(lab, ["run", "--tcp", "80", "--table", "501"], FAILURE, "501")


def test_a_busy_mark(lab):
    lab.router.run("ip", "rule", "add", "fwmark", "0x1/0x3", "lookup", "100")
    fails(lab, ["run", "--tcp", "80", "--mark", "0x1/0x3"], FAILURE, ["0x1/0x3", "100"])


def test_the_same_name_twice(lab, start):
    first = start("--tcp", "80")
    fails(lab, ["run", "--tcp", "81"], FAILURE, str(first.pid))


@pytest.mark.parametrize("prefix", [["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
                                    ["setpriv", "--bounding-set=-net_admin"]], ids=["nobody", "root without net_admin"])
def test_missing_privileges(lab, prefix):
    fails(lab, ["run", "--tcp", "80"], UNSUPPORTED, "CAP_NET_ADMIN", prefix)


def test_apply_says_once_that_privileges_are_missing(lab):
    done = lab.router.run("setpriv", "--bounding-set=-net_admin", limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--to-port", "3129",
                          check=False)
    assert done.returncode == UNSUPPORTED
    assert done.stderr == "limpid: install rules: Operation not permitted (needs CAP_NET_ADMIN: run as root)\n"


def test_standard_output_that_is_full(lab):
    for arguments in (["rules", "show", "--tcp", "80", "--to-port", "3129"], ["doctor", "--json", "--only", "limits"]):
        done = lab.router.run("sh", "-c", 'exec "$@" > /dev/full', "sh", limpid_process.BINARY, *arguments, check=False)
        assert done.returncode == FAILURE and "limpid: write standard output: " in done.stderr, done


def in_place_of_nft(replacement):
    """A prefix that runs a program in a mount namespace where nft is something else."""
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", replacement,
            os.path.realpath(shutil.which("nft"))]


@pytest.mark.nftables("what nft says when it fails")
def test_nft_is_missing(lab):
    fails(lab, ["run", "--tcp", "80", "--backend", "nftables"], UNSUPPORTED, "nftables", in_place_of_nft("/dev/null"))


@pytest.fixture
def broken_nft(lab, tmp_path):
    """broken_nft(script) → a prefix under which nft is that script; $NFT in it is the real one."""
    def make(script):
        real = tmp_path / "real-nft"
        shutil.copy(shutil.which("nft"), real)
        fake = tmp_path / "fake-nft"
        fake.write_text(f"#!/bin/sh\nNFT={real}\n{script}\n")
        fake.chmod(0o755)
        return in_place_of_nft(fake)
    return make


@pytest.mark.nftables("what nft says when it fails")
def test_the_kernel_lacks_tproxy(lab, broken_nft):
    """As nft 1.0.6 says it where NFT_TPROXY is not built."""
    prefix = broken_nft('case "$*" in *list*) exec $NFT "$@";; esac\n'
                        'input=$(cat)\n'
                        'case "$input" in *tproxy*) ;; *) printf "%s\\n" "$input" | $NFT "$@"; exit;; esac\n'
                        "echo '/dev/stdin:9:5-20: Error: Could not process rule: No such file or directory' >&2; exit 1")
    fails(lab, ["run", "--tcp", "80", "--backend", "nftables"], UNSUPPORTED, "tproxy", prefix)


@pytest.mark.nftables("what nft says when it fails")
def test_a_failure_half_way_is_undone(lab, broken_nft):
    """The check passes, and the table, which comes last, cannot be installed: rules and routes go again."""
    prefix = broken_nft('case "$*" in *list*|*-c*) exec $NFT "$@";; esac\n'
                        "echo 'Error: Could not process rule: Device or resource busy' >&2; exit 1")
    fails(lab, ["run", "--tcp", "80", "--backend", "nftables"], FAILURE, "Device or resource busy", prefix)
    fails(lab, ["run", "--tcp", "80", "--backend", "nftables", "--enable-forwarding"], FAILURE, "busy", prefix)
    assert installed(lab.router) == []


def test_a_start_that_fails_leaves_no_socket(lab):
    """Without a loopback interface no route delivers locally; who relays has given up the right to the socket's folder by then."""
    lab.router.run("ip", "link", "set", "lo", "down")
    done = lab.router.run(limpid_process.BINARY, "run", "--tcp", "80", check=False)
    lab.router.run("ip", "link", "set", "lo", "up")
    assert done.returncode == FAILURE and "intercepting" not in done.stderr, done
    assert os.listdir(os.environ["LIMPID_RUN_DIRECTORY"]) == []
    assert "the instance does not run (" in lab.router.run(limpid_process.BINARY, "status", check=False).stderr


@pytest.mark.nftables("what nft says when it fails")
def test_nft_crashes(lab, broken_nft):
    fails(lab, ["run", "--tcp", "80", "--backend", "nftables"], FAILURE, "nft", broken_nft("kill -SEGV $$"))


def test_no_arguments_show_the_way(lab):
    done = lab.router.run(limpid_process.BINARY, check=False)
    assert done.returncode in (0, USAGE)
    assert "limpid run" in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) < 25, "a wall"


def test_help_and_version(lab):
    assert "--tcp" in lab.router.run(limpid_process.BINARY, "run", "--help").stdout
    assert lab.router.run(limpid_process.BINARY, "--version").stdout.startswith("limpid ")
