"""What a shell offers when the tabulator key is pressed. Tried in bash, the only shell that is always there."""

import subprocess

import pytest

import limpid_process

PROGRAM = """
source /dev/stdin
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_limpid
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words):
    script = subprocess.run([limpid_process.BINARY, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run(["bash", "-c", PROGRAM, "bash", "limpid", *words], input=script, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_verbs_and_flags():
    assert {"run", "rules", "relay", "nc", "exec", "lab", "completion"} <= set(offered(""))
    assert offered("rules", "wa") == ["watch"]
    assert "--enable-forwarding" in offered("run", "--en")
    assert "--dry-run" in offered("rules", "apply", "--dry")


@pytest.mark.parametrize("words, values", [
    (["run", "--fail", ""], {"open", "closed"}),
    (["run", "--source", "add"], {"address", "address+port"}),
    (["rules", "watch", "--repair", ""], {"on", "off"}),
    (["rules", "apply", "--for", "s"], {"squid"}),
    (["relay", "--log-format", "j"], {"json"}),
])
def test_words_that_an_option_takes(words, values):
    assert set(offered(*words)) == values


def test_interfaces_users_and_directories():
    assert "lo" in offered("run", "--from", "l")
    assert "root" in offered("run", "--uid", "roo")
    assert "/etc" in offered("relay", "--chroot", "/et")


def test_nothing_is_offered_where_only_the_user_knows():
    """A flag there would be taken for the value."""
    assert offered("run", "--tcp", "") == []
