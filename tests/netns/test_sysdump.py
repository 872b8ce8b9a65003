"""`limpid sysdump`: what is in the archive, what is not and why, and that nobody's address, name or password is."""

import json
import os
import stat
import tarfile
import tempfile

import pytest

import limpid_process
from control_client import verb
from peers import exchange

NAME = "private-name.example.org"


def unpack(path):
    """Names without the folder → text."""
    with tarfile.open(path, "r:gz") as archive:
        members = archive.getmembers()
        folders = {member.name.split("/")[0] for member in members}
        assert len(folders) == 1 and all(member.isreg() and member.mode == 0o600 and ".." not in member.name for member in members)
        return {member.name.split("/", 1)[1]: archive.extractfile(member).read().decode() for member in members}


def dump(lab, path, *arguments, **options):
    done = verb(lab, "sysdump", "-o", path, "--json", *arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), unpack(path)


def test_everything_of_a_running_instance_but_nobodys_address(lab, start, configure, tmp_path):
    secret = "hidden-" + "word"
    file = configure(tcp=[80], rules=[f"domain(exact: {NAME}) -> reject", f"dst({lab.server.address}) -> direct", "otherwise -> direct"],
                     upstreams={"far": {"servers": [f"socks5://someone:{secret}@{lab.server.address if lab.family == 'ipv4' else f'[{lab.server.address}]'}:1080"], "check": "0"}})
    start("-c", file)
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
    log = tmp_path / "messages.log"
    log.write_text(f"client={lab.client.address} name={NAME} password={secret}\n")

    report, parts = dump(lab, tmp_path / "dump.tar.gz", "--log", log)
    assert stat.S_IMODE(os.stat(tmp_path / "dump.tar.gz").st_mode) == 0o600
    assert report["schema"] == 1 and report["addresses"] == "pseudonyms" and report["bytes"] == os.path.getsize(tmp_path / "dump.tar.gz")
    there = {part["path"] for part in report["parts"] if part["missing"] is None}
    assert there == set(parts) and {"MANIFEST", "system.txt", "plan.txt", "check.json", "doctor.json", "log/file.txt", "kernel/sysctls.txt", "kernel/ip-rule.txt",
                                    "kernel/ip-route-6.txt", "kernel/ip-link.txt", "instance/status.json", "instance/flows.json", "instance/metrics.txt"} <= there
    if limpid_process.BACKEND == "nftables":
        assert "table inet limpid" in parts["kernel/nft-ours.txt"]
    assert json.loads(parts["instance/status.json"])["state"] == "serving"
    assert "findings" in json.loads(parts["doctor.json"]) and "net/ipv4/ip_forward = 1" in parts["kernel/sysctls.txt"]
    for part in report["parts"]:
        assert part["path"] in {"MANIFEST", *parts["MANIFEST"].split()} and (part["missing"] is None or part["missing"] in parts["MANIFEST"])

    whole = "\n".join(parts.values()) + json.dumps(report)
    for private in (lab.client.address, lab.server.address, "private-name", secret, "someone", os.uname().nodename):
        assert private not in whole, private
    # The same one everywhere: who reads it can follow a client.
    flow, = json.loads(parts["instance/flows.json"])["flows"]
    client = flow["client"].rpartition(":")[0].strip("[]")
    assert f"client={client} " in parts["log/file.txt"]
    target = flow["target"].rpartition(":")[0].strip("[]")
    assert f"dst({target}) -> direct" in parts["instance/rules.json"]

    report, parts = dump(lab, tmp_path / "real.tar.gz", "--with-addresses", "--log", log)
    assert report["addresses"] == "real" and lab.client.address in parts["instance/flows.json"] and NAME in parts["instance/rules.json"]
    assert secret not in "\n".join(parts.values())


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_without_an_instance_and_without_root(lab, tmp_path):
    # Pytest's own folder is closed to others.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        report, parts = dump(lab, os.path.join(folder, "dump.tar.gz"), "--config", tmp_path / "nothing.toml", user=65534, group=65534, extra_groups=[])
    refused = verb(lab, "sysdump", "-o", tmp_path / "dump.tar.gz", user=65534, group=65534, extra_groups=[])
    assert refused.returncode == limpid_process.UNSUPPORTED and "Permission denied" in refused.stderr
    missing = {part["path"]: part["missing"] for part in report["parts"] if part["missing"] is not None}
    assert "only root" in missing["instance/status.json"], missing  # the folder of the sockets is closed, too
    assert missing["kernel/nft-ours.txt"] and missing["plan.txt"] and "uid 65534" in parts["system.txt"]
    assert all(f"{path} " in parts["MANIFEST"] for path in missing)
    assert "kernel/ip-link.txt" in parts


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_no_file_of_others_is_touched_and_no_link_followed(lab, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link.tar.gz").symlink_to(victim)
    (tmp_path / "dangling.tar.gz").symlink_to(tmp_path / "made")
    for name in ("victim", "link.tar.gz", "dangling.tar.gz", "no/such/folder.tar.gz"):
        refused = verb(lab, "sysdump", "-o", tmp_path / name)
        assert refused.returncode == limpid_process.FAILURE and name in refused.stderr, refused
    assert victim.read_text() == "precious" and not (tmp_path / "made").exists()
    (tmp_path / "log").symlink_to(victim)
    report, parts = dump(lab, tmp_path / "dump.tar.gz", "--log", tmp_path / "log")
    missing = {part["path"]: part["missing"] for part in report["parts"] if part["missing"] is not None}
    assert "log/file.txt" not in parts and missing["log/file.txt"] == "it is a link"
    assert "instance/status.json" not in parts and "limpid run" in missing["instance/status.json"]
    # Whatever it is called, it unpacks to a folder of its own.
    dump(lab, tmp_path / "...tar.gz")
    assert verb(lab, "sysdump", "--name", "No Name").returncode == limpid_process.USAGE
