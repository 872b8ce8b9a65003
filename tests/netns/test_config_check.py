"""limpid check says everything that is wrong at once, in several files too; nothing is changed, and nobody is asked but the resolver."""

import json
import resource
import subprocess

import pytest

import limpid_process
from limpid_process import USAGE

WRONG = """\
tcp = "70000"
udp = 53
workers = "many"
udp-timeout = "soon"
no-such-thing = 1
upstream = ["socks7://10.0.0.1"]
upstream-down = "sometimes"
rules = [
  "dst(10.0.0.0/99) -> drop",
  "dst(10.1.0.0/16) -> via(offcie)",
  "dst(10.0.0.0/8) -> via(office)",
  "dport(80) && dport(81) -> direct",
]
[sets]
lan = ["10.0.0.0/8", "x/y"]
[upstreams.office]
choice = "random"
servers = ["socks5://10.0.0.1", "http://10.0.0.1:99999", "socks5://10.0.0.1"]
down = "never"
timeout = 0
check = "1ms"
udp = "maybe"
mark = "0x10/0xff"
interface = "no way"
source = ["10.0.0.9", "10.0.0.10", "x"]
password = "secret"
colour = "red"
via = ["a", "b"]
[upstreams.empty]
choice = "order"
[upstreams."two words"]
servers = ["direct://"]
"""


def check(*arguments):
    return subprocess.run([limpid_process.BINARY, "check", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def places(report):
    return [(int(error["place"].rpartition(":")[2]), error["field"]) for error in report["errors"]]


def test_every_mistake_of_a_file(tmp_path):
    path = tmp_path / "limpid.toml"
    path.write_text(WRONG)
    done = check("--json", path)
    report = json.loads(done.stdout)
    assert done.returncode == 2 and report["ok"] is False
    assert all(error["place"].startswith(f"{path}:") and error["cause"] for error in report["errors"])
    found = places(report)
    lines = [line for line, _ in found]
    for line in (1, 3, 4, 5, 6, 7, 9, 10, 12, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31):
        assert line in lines, (line, WRONG.splitlines()[line - 1], found)
    assert 2 not in lines and 11 not in lines, "what is right is not blamed"
    assert lines.count(25) == 2, "a second source of one family, and no address"
    fields = dict(found)
    assert fields[17] == "upstreams.office.choice" and fields[12].startswith('"dport(80)') and fields[4].startswith("udp-timeout")
    assert "secret" not in done.stdout
    text = check(path)
    assert text.returncode == 2 and text.stderr.count("\n") == len(found) and not text.stdout


@pytest.mark.parametrize("section,line,field,cause", [
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nvia = "b"\n', 5, "upstreams.a.via = b", "there is no group of upstreams of this name"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nvia = "a"\n', 5, "upstreams.a.via = a", "chains have two links"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nvia = "b"\n[upstreams.b]\nservers = ["tcp://10.0.0.1:80"]\n', 5, "upstreams.a.via = b", "cannot be asked"),
    ('[upstreams.a]\nservers = ["direct://"]\nvia = "b"\n[upstreams.b]\nservers = ["socks5://10.0.0.1"]\n', 4, "upstreams.a.servers", "it has no host"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1", "socks5://10.0.0.1"]\n', 4, "upstreams.a.servers", "two upstreams of one group"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nsource = "2001:db8::1"\n', 4, "upstreams.a.servers", "of the other address family"),
    ('[upstreams.a]\nservers = ["direct://"]\nuser = "me"\n', 5, "upstreams.a.user", "none of the servers takes a user"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nuser = "me"\npassword-file = "absent"\n', 4, "upstreams.a.servers", "absent: No such file or directory"),
    ('[upstreams.a]\nservers = ["socks5://10.0.0.1"]\nuser = "me"\npassword = "x"\npassword-file = "absent"\n', 7, "upstreams.a.password-file", "there is a password already"),
    ('[upstreams.a]\nservers = true\n', 4, "upstreams.a.servers", "not true or false"),
    ('[upstreams.upstream]\nservers = ["direct://"]\n', None, "upstreams.upstream", "nothing goes through it"),
    ("[upstreams]\na = 1\n", 4, "upstreams.a", "this is a section"),
    ("[upstreams.a]\nservers = []\n", 4, "upstreams.a.servers", "the list is empty"),
], ids=lambda value: value if isinstance(value, str) and " " in value and "\n" not in value else None)
def test_what_is_wrong_with_groups(tmp_path, section, line, field, cause):
    path = tmp_path / "limpid.toml"
    path.write_text(f"tcp = 80\nrules = [\"otherwise -> direct\"]\n{section}")
    report = json.loads(check("--json", path).stdout)
    errors = report["errors"] if line is not None else report["warnings"]
    assert any(error["field"] == field and cause in error["cause"] and error["remedy"] for error in errors), report
    if line is not None:
        assert any(error["place"] == f"{path}:{line}" for error in errors), report


def test_several_files_and_directories(tmp_path):
    for name, text in (("one/limpid.toml", "tcp = 80\n"), ("one/conf.d/more.toml", 'rules = ["otherwise -> direct"]\n'), ("many/a.toml", "tcp = 81\n"),
                       ("many/b.toml", "tcp = 0\n"), ("many/notes.txt", "x"), ("nothing/README", "x")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = check(tmp_path / "one", tmp_path / "many/a.toml")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    report = json.loads(check("--json", tmp_path / "one").stdout)
    assert (report["schema"], report["ok"], report["rules"], len(report["files"]), len(report["configurations"])) == (1, True, 1, 2, 1)
    done = check(tmp_path / "one", tmp_path / "many")
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 2 and f"{tmp_path}/many/b.toml:1" in done.stderr
    report = json.loads(check("--json", tmp_path / "one", tmp_path / "many").stdout)
    assert [configuration["ok"] for configuration in report["configurations"]] == [True, True, False] and not report["ok"]
    assert len(report["errors"]) == 1
    assert check(tmp_path / "nothing").returncode == 2
    assert check(tmp_path / "absent.toml").returncode == 1


def test_a_section_twice_in_two_files_is_told(tmp_path):
    (tmp_path / "conf.d").mkdir()
    section = '[upstreams.a]\nservers = ["socks5://10.0.0.1"]\n'
    (tmp_path / "limpid.toml").write_text('tcp = 80\nrules = ["otherwise -> via(a)"]\n' + section)
    (tmp_path / "conf.d/more.toml").write_text(section)
    done = check(tmp_path / "limpid.toml")
    assert done.returncode == 2 and "conf.d/more.toml:1 upstreams.a: an earlier file has a group of this name" in done.stderr


@pytest.mark.parametrize("key", ["control", "from", "idle-timeout"])
def test_an_empty_value_takes_no_other_along(tmp_path, key):
    (tmp_path / "limpid.toml").write_text(f'tcp = "80"\n{key} = ""\n')
    done = subprocess.run([limpid_process.BINARY, "check", tmp_path / "limpid.toml"], capture_output=True, text=True, check=False)
    assert done.returncode == USAGE
    assert f"limpid.toml:2 {key}: it is empty (give it a value, or leave the line out)" in done.stderr and ":1 " not in done.stderr


def test_a_mistake_is_told_once_and_where_it_is(tmp_path):
    """Rules are numbered as they are written, and what uses a set or a database with mistakes is not blamed for it."""
    path = tmp_path / "limpid.toml"
    path.write_text("""\
tcp = 80
geoip-database = "absent.mmdb"
rules = [
  "dst(10.0.0.0/99) -> drop",
  "dst(@lan) -> bypass",
  "dport(80) -> direct",
  "geoip(DE) -> drop",
  "geoip(FR) && dport(81) -> drop",
  "src(192.0.2.1) && dport(80) -> drop",
  "iif(a) && iif(b) -> drop",
  "domain(@lan) -> drop",
]
[sets]
lan = ["10.0.0.0/8", "x/y"]
""")
    report = json.loads(check("--json", path).stdout)
    assert places(report) == [(14, "sets.lan"), (4, "rules[1]"), (7, "rules[4]"),
                              (9, '"src(192.0.2.1) && dport(80) -> drop"'), (10, '"iif(a) && iif(b) -> drop"')], report["errors"]
    by_line = {line: error for (line, _), error in zip(places(report), report["errors"], strict=True)}
    assert 'rule 3 ("dport(80) -> direct") takes all' in by_line[9]["cause"] and "before rule 3" in by_line[9]["remedy"]
    assert "contradict" in by_line[10]["cause"]
    line = next(line for line in check(path).stderr.splitlines() if "rules[4]" in line)
    assert not by_line[7]["remedy"] or line.count(by_line[7]["remedy"]) == 1, line


def test_thousands_of_rules_take_no_time(tmp_path):
    """Quadratic work showed here as half a minute."""
    path = tmp_path / "limpid.toml"
    rules = [f"dst(10.{i // 250}.{i % 250}.0/24) -> {'bypass' if i % 2 else 'direct'}" for i in range(4000)]
    rules += [f"src(172.16.{i // 250}.{i % 250}) -> bypass" for i in range(1000)]
    path.write_text("tcp = 80\nrules = [\n" + "".join(f'"{rule}",\n' for rule in rules) + '"otherwise -> direct"]\n')
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = check(path)
    assert done.returncode == 0, done.stderr[:500]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10
