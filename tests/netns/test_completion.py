"""What a shell offers when the tabulator key is pressed. Tried in bash, the only shell that is always there, and in fish."""

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


def offered_by_fish(line, home):
    script = subprocess.run([limpid_process.BINARY, "completion", "fish"], capture_output=True, text=True, check=True).stdout
    (home / "limpid.fish").write_text(script)
    done = subprocess.run(["fish", "--no-config", "-c", 'source $argv[1]; complete -C $argv[2]', str(home / "limpid.fish"), line], capture_output=True, text=True,
                          check=True, timeout=30, env={"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "dumb"})
    assert done.stderr == ""
    return {each.split("\t")[0] for each in done.stdout.splitlines()}


def test_fish_offers_verbs_flags_and_values(need, tmp_path):
    need("fish", "fish")
    assert {"run", "rules", "sysdump", "completion"} <= offered_by_fish("limpid ", tmp_path)
    assert "watch" in offered_by_fish("limpid rules wa", tmp_path) and "apply" not in offered_by_fish("limpid rules wa", tmp_path)
    assert "--enable-forwarding" in offered_by_fish("limpid run --en", tmp_path)
    assert "--with-addresses" in offered_by_fish("limpid sysdump --with", tmp_path)
    assert "--with-addresses" not in offered_by_fish("limpid run --with", tmp_path), "a flag of another verb"
    assert {"open", "closed"} == offered_by_fish("limpid run --fail ", tmp_path)
    assert "lo" in offered_by_fish("limpid run --from l", tmp_path)
