"""`limpid lab`: the network for users. The other tests build their own, so that a fault of one is not a fault of both."""

import limpid_process
import pytest

from peers import wait_until


def limpid_lab(lab, *arguments, **options):
    """`limpid lab` on the router. It enters a process ID namespace, in which LeakSanitizer does not find its own process."""
    return lab.router.run(limpid_process.BINARY, "lab", *arguments, env=limpid_process.environment_without_leak_check(), **options)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_lab_run_gives_three_hosts_and_leaves_nothing(lab, need):
    need("nsenter", "util-linux")
    script = """
        set -e
        for entry in $(echo "$LIMPID_LAB" | tr , ' '); do
            eval "${entry%%=*}=${entry#*=}"
        done
        echo "namespaces $(stat -Lc %i "$client" "$router" "$server" | tr '\\n' ' ')"
        nsenter --net="$router" ip -brief link show lan
        nsenter --net="$router" ip -brief link show wan
        nsenter --net="$client" ip -brief link show eth0
        nsenter --net="$server" ip -brief link show eth0
    """
    done = limpid_lab(lab, "run", "--", "sh", "-c", script, timeout=20)
    namespaces = next(line for line in done.stdout.splitlines() if line.startswith("namespaces ")).split()[1:]
    assert len(set(namespaces)) == 3
    assert done.stdout.count("eth0") >= 2
    # Only its own: other tests come and go meanwhile.
    # lsns gives up where a process ends while it looks.
    listing = wait_until(lambda: (done := lab.router.run("lsns", "--noheadings", "--type", "net", "--output", "NS", check=False)).returncode == 0 and done, "lsns")
    still_there = listing.stdout.split()
    assert not set(namespaces) & set(still_there)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_lab_run_has_its_commands_exit_status(lab):
    assert limpid_lab(lab, "run", "--", "sh", "-c", "exit 7", check=False).returncode == 7


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_lab_run_gives_every_word_as_it_stands(lab):
    words = ["[::1]", "--in", "server", "", "a b", "--"]
    done = limpid_lab(lab, "run", "--", "printf", "<%s>", *words)
    assert done.stdout == "".join(f"<{word}>" for word in words)
