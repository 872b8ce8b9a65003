"""Names that try to leave their place in nft's text: each is refused, or is only a name. Tried on the real nft, beside somebody else's table."""

import os
import random

import pytest

import kernel_state
import limpid_process
from limpid_process import DONE, FAILURE, UNSUPPORTED, USAGE

ROUNDS = int(os.environ.get("LIMPID_HOSTILE_ROUNDS", "60"))

PIECES = ['"', "'", "\\", ";", "{", "}", "\n", "\r", "\t", " ", "#", "$", "`", "$(", ")", "|", "&", "<", ">", "*", "?", "!", "..", "/", "../", "@", ":", ",",
          "lan", "limpid", "a", "0", "-", "--", "\x01", "\x7f", "é", "\U0001f600", "%s", "%n",
          '"; flush ruleset; "', "\nflush ruleset\n", '" accept\n}\n}\ndelete table inet theirs\n#', "include \"/etc/passwd\"", "table inet theirs",
          "define x = 1", "drop", "$x", "@theirs"]
FLAGS = ["--name", "--from", "--to-net", "--exclude", "--cgroup", "--exclude-cgroup", "--uid", "--gid", "--mark", "--table", "--priority", "--tcp",
         "--udp", "--to-port", "--fail", "--source"]

THEIRS = """
table inet theirs {
  set theirs { type ipv4_addr; elements = { 192.0.2.9 }; }
  chain theirs { type filter hook prerouting priority 0; policy accept; ip saddr @theirs counter drop; }
}
"""


def hostile(chooser):
    return "".join(chooser.choice(PIECES) for _ in range(chooser.randint(1, 5))).replace("\0", "")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("seed", range(4))
def test_nothing_outside_our_tables_can_be_said(lab, seed):
    chooser = random.Random(seed)
    lab.router.nft(THEIRS)
    before = kernel_state.snapshot(lab.router)
    refused = 0
    for _ in range(ROUNDS // 4):
        arguments = ["--tcp", "80", "--to-port", "3129"]
        if chooser.random() < 0.3:
            arguments += ["--local", "--exclude-uid", "1"]
        for _ in range(chooser.randint(1, 2)):
            arguments.append(f"{chooser.choice(FLAGS)}={hostile(chooser)}")
        applied = lab.router.run(limpid_process.BINARY, "rules", "apply", *arguments, check=False)
        assert applied.returncode in (DONE, FAILURE, USAGE, UNSUPPORTED), (arguments, applied)
        assert "\nflush" not in applied.stderr and applied.stderr.count("\n") < 20, "nothing hostile reaches the terminal as a line of its own"
        refused += applied.returncode != DONE
        if applied.returncode == DONE:
            names = [argument for argument in arguments if argument.startswith("--name=")]
            lab.router.run(limpid_process.BINARY, "rules", "remove", *names)
        assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == [], arguments
    assert refused > 0
