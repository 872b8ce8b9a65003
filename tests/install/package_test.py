"""The Debian packages, of what is built already: installed, upgraded, removed and purged on a copy of this machine, where a purge leaves nothing."""
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest

from throwaway_root import ThrowawayRoot

SOURCE = pathlib.Path(os.environ["LIMPID_SOURCE"])
BUILD = pathlib.Path(os.environ.get("LIMPID_BUILD", "build/dev"))
MISSING = [program for program in ("dh", "dpkg-buildpackage", "unshare", "nsenter") if not shutil.which(program)]
pytestmark = [pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt-get install debhelper dpkg-dev util-linux)"),
              pytest.mark.skipif(os.geteuid() != 0, reason="needs root: installs packages, in a file system of its own")]

# What dpkg, ldconfig, groupadd and man-db write for themselves; and the lock that all iptables share, in a folder that ends with the machine's run.
OF_OTHERS = re.compile(r"/var/lib/dpkg(/.*)?|/var/log/dpkg\.log|/var/cache/(ldconfig|man)(/.*)?|/etc/ld\.so\.cache|/etc/(group|gshadow|passwd|shadow|subuid|subgid)-"
                       r"|/etc/\.pwd\.lock|/var/lib/systemd(/deb-systemd-helper-(enabled|masked))?|/run/(xtables\.lock|lock(/.*)?)")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module", name="folder")
def built(tmp_path_factory):
    """With the packages of now."""
    folder = tmp_path_factory.mktemp("packages")
    run(SOURCE / "scripts/make-deb.sh", folder, env={**os.environ, "LIMPID_BUILD_DIRECTORY": str(BUILD), "LINTIAN": "no"})
    return folder


@pytest.fixture(scope="module", name="package")
def limpid(folder):
    package, = folder.glob("limpid_*.deb")
    return package


@pytest.fixture(scope="module", name="older")
def of_before(package, folder):
    """The same of an earlier version, with a file that is no more."""
    tree = folder / "older"
    run("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*", "Version: 0.0.9-1", control.read_text(), flags=re.MULTILINE))
    (tree / "usr/share/limpid/no-more").write_text("of an earlier version\n")
    run("dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, folder / "older.deb")
    return folder / "older.deb"


@pytest.fixture(name="machine")
def copy(folder, tmp_path):
    machine = ThrowawayRoot(tmp_path / "machine", str(folder))
    if machine.error:
        machine.close()
        pytest.skip(f"no copy of this machine's file system can be made: {machine.error}")
    before = machine.changes()
    assert before == {}
    yield machine
    machine.close()


def left_by_us(machine):
    return {path: how for path, how in machine.changes().items() if not OF_OTHERS.fullmatch(path)}


def test_the_version_is_that_of_the_source():
    version, = re.findall(r"^project\(limpid VERSION ([0-9.]+)", (SOURCE / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert (SOURCE / "debian/changelog").read_text().startswith(f"limpid ({version}-")


def test_what_a_build_needs_is_told_to_debian():
    listed = run(SOURCE / "scripts/install-packages.sh", "--list", "build").split()
    control, = re.findall(r"^Build-Depends: (.*?)^Standards", (SOURCE / "debian/control").read_text(), re.MULTILINE | re.DOTALL)
    told = {entry.split()[0] for entry in control.split(",")}
    assert set(listed) - told == {"iproute2", "nftables"}, "which it needs to run"
    assert told - set(listed) == {"debhelper-compat"}


def test_everything_that_is_installed_is_in_a_package(folder, package, tmp_path):
    for each in (package, *folder.glob("liblimpid*.deb")):
        run("dpkg-deb", "-x", each, tmp_path)
    there = {path.name for path in tmp_path.rglob("*")}
    assert {path.name for path in (SOURCE / "docs").iterdir()} <= there
    assert {path.name for path in (SOURCE / "examples").rglob("*") if path.suffix in (".toml", ".cc", ".json", ".yml")} <= there
    assert {path.name for path in (SOURCE / "include/limpid").iterdir()} <= there
    assert {f"{path.stem}.gz" for path in (SOURCE / "man").glob("*.scd")} <= there
    assert {path.name for kind in ("drop-ins", "") for path in (SOURCE / "packaging/systemd" / kind).glob("*.service" if not kind else "*")} <= there
    for name in ("usr/share/bash-completion/completions/limpid", "usr/share/zsh/vendor-completions/_limpid", "usr/share/fish/vendor_completions.d/limpid.fish",
                 "usr/lib/tmpfiles.d/limpid.conf", "usr/lib/sysusers.d/limpid.conf", "lib/systemd/system/limpid.service"):
        assert (tmp_path / name).is_file(), name
    for unit in (tmp_path / "lib/systemd/system").iterdir():
        assert "=/usr/sbin/limpid r" in unit.read_text() and "/usr/local" not in unit.read_text()
    page = gzip.decompress((tmp_path / "usr/share/man/man1/limpid.1.gz").read_bytes()).decode()
    assert page.startswith(".\\\"")


def test_files_that_installed_pages_speak_of_are_installed(package, tmp_path):
    run("dpkg-deb", "-x", package, tmp_path)
    pages = tmp_path / "usr/share/doc/limpid/docs"
    linked = {(page.name, link) for page in pages.glob("*.md")
              for link in re.findall(r"\]\((\.\./(?:examples|packaging)/[^)#]+)", page.read_text(encoding="utf-8"))
              if not link.endswith(".cc")}  # those are in the library's package
    assert ("containers.md", "../packaging/container/daemonset.yaml") in linked
    assert {(page, link) for page, link in linked if not (pages / link).exists()} == set()


def test_an_upgrade_hands_over_what_runs_and_stops_nothing_else(package, tmp_path):
    """debhelper's own way would stop the service before and, as it starts none, leave it stopped."""
    run("dpkg-deb", "-e", package, tmp_path / "control")
    scripts = {path.name: path.read_text() for path in (tmp_path / "control").iterdir()}
    assert " stop " not in scripts.get("preinst", "") and "stop" not in scripts["postinst"].replace("stopped", "")
    assert 'limpid upgrade --name "$name"' in scripts["postinst"] and "try-restart 'limpid-rules-watch@*.service'" in scripts["postinst"]
    stop, = [line for line in scripts["prerm"].splitlines() if " stop " in line]
    assert all(unit in stop for unit in ("limpid.service", "limpid@*", "limpid-rules@*", "limpid-rules-watch@*"))


def test_nothing_is_intercepted_before_it_is_configured(machine, package):
    machine.run("dpkg", "-i", package)
    assert "limpid" in machine.run("limpid", "--version")
    assert machine.run("getent", "group", "limpid").startswith("limpid:")
    assert list((machine.path / "etc/limpid").rglob("*")) == [machine.path / "etc/limpid/conf.d"], "no configuration"
    assert not [path for path in machine.changes() if path.startswith("/etc/systemd")], "nothing is enabled"
    if shutil.which("systemctl"):
        for unit in ("limpid.service", "limpid@web.service", "limpid-rules@squid.service"):
            done = machine.run("systemctl", "--root=/", "is-enabled", unit, check=False)
            assert done.stdout.strip() == "disabled", unit
    for name in ("home-gateway.toml", "iot-isolation.toml"):
        example = f"/usr/share/doc/limpid/examples/config/{name}"
        assert tomllib.loads((machine.path / example[1:]).read_text())
        machine.run("limpid", "check", example)


def test_an_upgrade_keeps_what_the_administrator_has_written(machine, package, older):
    machine.run("dpkg", "-i", older)
    assert (machine.path / "usr/share/limpid/no-more").is_file()
    configuration = machine.path / "etc/limpid/limpid.toml"
    configuration.write_text('tcp = "80"\n')
    if shutil.which("systemctl"):
        machine.run("systemctl", "--root=/", "enable", "limpid.service", "limpid@web.service")
    machine.run("dpkg", "-i", package)
    assert configuration.read_text() == 'tcp = "80"\n' and not (machine.path / "usr/share/limpid/no-more").exists()
    wanted = machine.path / "etc/systemd/system/multi-user.target.wants"
    if shutil.which("systemctl"):
        assert os.path.lexists(wanted / "limpid.service") and os.path.lexists(wanted / "limpid@web.service")


def test_removed_the_configuration_stays_and_purged_nothing_does(machine, package, older):
    machine.run("dpkg", "-i", older)
    machine.run("dpkg", "-i", package)
    for path in ("etc/limpid/limpid.toml", "etc/limpid/conf.d/more.toml", "etc/default/limpid-rules-squid"):
        (machine.path / path).write_text("# the administrator's\n")
    machine.run("install", "-D", "/usr/share/limpid/systemd/client-programs.conf", "-t", "/etc/systemd/system/limpid@.service.d")
    (machine.path / "run/limpid").mkdir()
    if shutil.which("systemctl"):
        machine.run("systemctl", "--root=/", "enable", "limpid.service", "limpid@web.service", "limpid-rules@squid.service")
    machine.run("dpkg", "-r", "limpid")
    assert (machine.path / "etc/limpid/conf.d/more.toml").is_file()
    assert not [path for path in machine.changes() if path.startswith(("/usr", "/lib"))]
    machine.run("dpkg", "-P", "limpid")
    assert left_by_us(machine) == {}
    assert "limpid" not in machine.run("dpkg-query", "-W", "-f", "${Package}\\n")


def test_a_group_with_members_is_somebodys_and_stays(machine, package):
    machine.run("dpkg", "-i", package)
    machine.run("gpasswd", "--add", "nobody", "limpid")
    machine.run("dpkg", "-P", "limpid")
    assert set(left_by_us(machine)) <= {"/etc/group", "/etc/gshadow"}
    assert machine.run("getent", "group", "limpid").strip().endswith(":nobody")


def test_the_library_is_installed_beside_its_dependencies(machine, folder):
    shared, = folder.glob("liblimpid1_*.deb")
    development, = folder.glob("liblimpid-dev_*.deb")
    needs = run("dpkg-deb", "-f", shared, "Depends")
    assert "libfmt" in needs and "libbpf1" in needs and "libre2" not in needs and "libmicrohttpd" not in needs
    machine.run("dpkg", "-i", shared, development)
    assert machine.run("pkg-config", "--libs", "limpid").strip() == "-llimpid"
    assert "liblimpid.so.1" in machine.run("ldconfig", "-p")
    listed = machine.run("dpkg-query", "-L", "liblimpid1").split()
    assert [os.path.basename(path) for path in listed if ".so" in path] == ["liblimpid.so.1"]
    machine.run("dpkg", "-P", "liblimpid-dev", "liblimpid1")
    assert left_by_us(machine) == {}
