"""Each configuration in examples/config can be used: limpid check says so, and limpid run would install something."""

import json
from pathlib import Path

import pytest

from limpid_process import BINARY

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "config").glob("*.toml"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 10
    for example in EXAMPLES:
        assert example.read_text(encoding="utf-8").startswith("# "), f"{example.name} does not say what it is for"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_used(lab, example):
    checked = lab.router.run(BINARY, "check", example, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr and "note" not in checked.stderr, checked.stderr
    report = json.loads(lab.router.run(BINARY, "check", "--json", example).stdout)
    assert (report["ok"], report["errors"], report["notes"]) == (True, [], [])
    planned = lab.router.run(BINARY, "run", "-c", example, "--dry-run")
    assert "tproxy" in planned.stdout


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_mistakes_as_json(lab, configure):
    path = configure(tcp=80, rules=["dst(10.0.0.0/99) -> drop", "otherwise -> via(office)"])
    done = lab.router.run(BINARY, "check", "--json", path, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 2 and report["ok"] is False
    assert [error["place"] for error in report["errors"]] == [f"{path}:3", f"{path}:4"]
    assert all(error["cause"] for error in report["errors"])
