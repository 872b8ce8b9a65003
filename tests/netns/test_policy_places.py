"""geoip() and asn(): where addresses are, as databases say that the tests write themselves."""

import json

import pytest

import limpid_process
from local_programs import Teller
from mmdb_writer import countries, systems
from peers import read_to_end

HERE = {"ipv4": "198.51.100.0/24", "ipv6": "2001:db8:2::/48"}  # the server's
THERE = {"ipv4": "192.0.2.0/25", "ipv6": "2001:db8:1::/64"}  # the client's


@pytest.fixture(autouse=True)
def built_with_it(lab, tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text('geoip-database = "none.mmdb"\ntcp = 80\nrules = ["geoip(de) -> reject"]\n', encoding="utf-8")
    if "this build cannot read" in lab.router.run(limpid_process.BINARY, "check", file, check=False).stderr:
        pytest.skip("this build cannot read such databases: it was made without libmaxminddb-dev")


def is_refused(lab, port):
    """The reset may be there as soon as the handshake is."""
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.server.address, port).recv(1)
    return True


def check(lab, file):
    done = lab.router.run(limpid_process.BINARY, "check", "--json", file, check=False)
    return json.loads(done.stdout)


def test_the_writer_writes_what_others_read(lab, need, tmp_path):
    need("mmdblookup", "mmdb-bin")
    countries(tmp_path / "c.mmdb", DE=[HERE["ipv4"], HERE["ipv6"]], FR=[THERE[lab.family]])
    key = "country" if lab.family == "ipv4" else "registered_country"
    found = lab.client.run("mmdblookup", "--file", tmp_path / "c.mmdb", "--ip", lab.server.address, key, "iso_code").stdout
    assert '"DE"' in found


def test_places_decide_and_a_reload_reads_the_file_again(lab, start, configure, tmp_path):
    countries(tmp_path / "c.mmdb", DE=[HERE["ipv4"], HERE["ipv6"]], FR=[THERE["ipv4"], THERE["ipv6"]])
    systems(tmp_path / "a.mmdb", {64496: [HERE["ipv4"], HERE["ipv6"]], 64497: [THERE["ipv4"], THERE["ipv6"]]})
    settings = {"tcp": "80-84", "geoip-database": "../c.mmdb", "asn-database": str(tmp_path / "a.mmdb")}
    rules = ["dport(80) && geoip(fr, De) -> reject", "dport(81) && geoip(src: FR) && !geoip(src: de) -> reject", "dport(82) && asn(AS64496) -> reject",
             "dport(83) && asn(src: 64497, src: 64496) -> reject", "dport(84) && (geoip(fr) || asn(64497)) -> reject", "otherwise -> direct"]
    file = configure(rules=rules, **settings)
    limpid = start("-c", file, "--workers", "1")
    Teller(lab, 84)
    for port in (80, 81, 82, 83):
        assert is_refused(lab, port)
    served = lab.client.connect(lab.server.address, 84)
    served.shutdown(1)
    assert lab.client.address in read_to_end(served).decode()
    assert [flow["rule"] for flow in limpid.flows(5)] == ["1", "2", "3", "4", "6"]
    # The same text, and another file.
    countries(tmp_path / "c.mmdb", FR=[HERE["ipv4"], HERE["ipv6"]], DE=["203.0.113.0/24"])
    difference = lab.router.run(limpid_process.BINARY, "diff", file, check=False)
    assert difference.returncode == 1 and "geoip(FR)" in difference.stdout
    assert lab.router.run(limpid_process.BINARY, "reload").returncode == 0
    assert is_refused(lab, 84)
    assert limpid.flows(6)[5]["rule"] == "5"


def test_a_bypass_by_place_is_told_to_the_kernel(lab, start, configure, tmp_path):
    countries(tmp_path / "c.mmdb", DE=[HERE["ipv4"], HERE["ipv6"]])
    file = configure(rules=["geoip(de) -> bypass", "otherwise -> reject"], **{"tcp": "80", "geoip-database": str(tmp_path / "c.mmdb")})
    assert check(lab, file)["notes"] == []
    start("-c", file)
    listener = lab.server.listen(80)
    assert lab.dial(listener).was_forwarded


def test_what_is_wrong_is_said(lab, configure, tmp_path):
    good = tmp_path / "c.mmdb"
    countries(good, DE=["192.0.2.0/25", "2001:db8::/33"])
    whole = good.read_bytes()
    (tmp_path / "empty.mmdb").write_bytes(b"")
    (tmp_path / "cut.mmdb").write_bytes(whole[len(whole) // 3:])
    # Its first node leads to itself, both ways.
    (tmp_path / "circle.mmdb").write_bytes(b"\0" * 6 + whole[6:])
    for name, rule, said in (("c.mmdb", "geoip(xx) -> reject", "has no network of XX"), ("c.mmdb", "geoip(germany) -> reject", "'germany' is no country"),
                             ("c.mmdb", "geoip(de, src: de) -> reject", "source and destination"), ("c.mmdb", "asn(1) -> reject", "asn-database"),
                             ("missing.mmdb", "geoip(de) -> reject", "missing.mmdb"), ("empty.mmdb", "geoip(de) -> reject", "empty.mmdb"),
                             ("cut.mmdb", "geoip(de) -> reject", "cut.mmdb"), ("circle.mmdb", "geoip(de) -> reject", "damaged")):
        found = check(lab, configure(rules=[rule, "otherwise -> direct"], **{"tcp": "80", "geoip-database": f"../{name}"}))
        assert not found["ok"] and len(found["errors"]) == 1 and "rules[1]" in found["errors"][0]["field"], (name, rule)
        assert said in json.dumps(found["errors"], ensure_ascii=False), (name, rule)
