"""What `make install` installs is complete: a stranger's program builds against it, with CMake and with pkg-config, with either library, and runs."""
import os
import pathlib
import re
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("LIMPID_BUILD", "build/dev"))

PROGRAM = """
#include <cstdio>
#include <limpid/datagram.h>
#include <limpid/interception.h>
#include <limpid/transparent.h>

int main() {
  const auto ports = limpid::PortSet::parse("443,80");
  // Without privileges or with a bad name: an error either way, and everything that the archive needs is linked in.
  limpid::InterceptionOptions options;
  options.name = "no name like this";
  const auto refused = limpid::Interception::install(options);
  const auto listener = limpid::listen_transparent({limpid::IpAddress::loopback(limpid::Family::ipv4), limpid::Port{0}});
  // An address of nobody's is no error with privileges and a remedy without: never a missing symbol.
  const auto nobody = limpid::SocketAddress::parse("222.173.190.239:51966");
  const auto datagrams = limpid::listen_datagrams(*nobody);
  const auto socket = limpid::open_datagram_socket({.source = *nobody});
  auto sender = limpid::RawSender::open(limpid::Family::ipv4);
  const bool all = datagrams && socket && sender;
  limpid::DatagramBatch batch;
  if (all && (!batch.receive(datagrams->get()).empty() || sender->send({}) != 0)) return 1;
  std::printf("%s %s %s %s\\n", ports->to_string().c_str(), refused ? "installed" : "refused",
              listener ? "listens" : listener.error().message().c_str(), all ? "speaks" : "may not");
}
"""

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(limpid 0.1 REQUIRED)
add_executable(consumer main.cc)
target_link_libraries(consumer PRIVATE limpid::limpid)
"""


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module", name="prefix")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


@pytest.fixture(name="source")
def consumer(tmp_path):
    (tmp_path / "main.cc").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    return tmp_path


def test_the_program_and_its_company_are_installed(prefix):
    assert os.access(prefix / "sbin/limpid", os.X_OK)
    run(prefix / "sbin/limpid", "--help")
    for header in (pathlib.Path(os.environ["LIMPID_SOURCE"]) / "include/limpid").iterdir():
        assert (prefix / "include/limpid" / header.name).read_bytes() == header.read_bytes()
    for name in ("bash-completion/completions/limpid", "zsh/vendor-completions/_limpid", "fish/vendor_completions.d/limpid.fish"):
        completion = prefix / "share" / name
        assert "limpid" in completion.read_text(), f"{completion} completes nothing"


def test_the_units_are_installed(prefix):
    units = sorted(path.name for path in (prefix / "lib/systemd/system").iterdir())
    assert units == ["limpid-rules-watch@.service", "limpid-rules@.service", "limpid.service", "limpid@.service"]
    for unit in units:
        text = (prefix / "lib/systemd/system" / unit).read_text()
        assert f"={prefix}/sbin/limpid r" in text and "CapabilityBoundingSet=CAP_NET_ADMIN\n" in text and not re.search("@[A-Z]", text)
    drop_ins = {path.name for path in (pathlib.Path(os.environ["LIMPID_SOURCE"]) / "packaging/systemd/drop-ins").iterdir()}
    assert {path.name for path in (prefix / "share/limpid/systemd").iterdir()} == drop_ins
    assert (prefix / "lib/tmpfiles.d/limpid.conf").is_file() and (prefix / "lib/sysusers.d/limpid.conf").is_file()


def test_the_examples_are_installed(prefix):
    source = pathlib.Path(os.environ["LIMPID_SOURCE"]) / "examples"
    wanted = {path.relative_to(source): path.read_bytes() for pattern in ("config/*", "monitoring/*", "*.cc") for path in source.glob(pattern)}
    containers = source.parent / "packaging/container"
    wanted |= {pathlib.Path("containers", path.name): path.read_bytes() for path in containers.iterdir()}
    there = prefix / "share/doc/limpid/examples"
    assert {path.relative_to(there): path.read_bytes() for path in there.rglob("*") if path.is_file()} == wanted and len(wanted) > 10


def test_a_staged_installation_is_the_same_and_touches_nothing_else(prefix, tmp_path):
    run("cmake", "--install", BUILD, "--prefix", "/usr", env={**os.environ, "DESTDIR": str(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == ["usr"]

    def listed(folder):
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    # Under /usr the library may lie in a folder of the architecture (GNUInstallDirs).
    assert [re.sub(r"^lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/", "lib/", name) for name in listed(tmp_path / "usr")] == [
        re.sub(r"^lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/", "lib/", name) for name in listed(prefix)]
    for kind in ("*.a", "*.so", "*.so.1", "*.pc", "limpidConfig.cmake", "limpidTargets.cmake", "limpid.service", "limpid-run.1", "limpid.toml.5"):
        assert list(tmp_path.rglob(kind)), kind


def test_every_man_page_is_installed_and_readable(prefix):
    sources = sorted(path.stem for path in (pathlib.Path(os.environ["LIMPID_SOURCE"]) / "man").glob("*.scd"))
    assert sources == sorted(path.name for path in (prefix / "share/man").rglob("*.[1-8]"))
    for page in (prefix / "share/man").rglob("*.[1-8]"):
        assert page.read_text().startswith(".\\\""), f"{page} is no man page"


def is_linked_to_the_library(program):
    return "(NEEDED)" in "".join(line for line in run("readelf", "-d", program).splitlines() if "liblimpid.so.1]" in line)


@pytest.mark.parametrize(("target", "is_shared"), [("limpid", True), ("archive", False)])
def test_a_program_builds_with_cmake_and_runs(prefix, source, target, is_shared):
    (source / "CMakeLists.txt").write_text(CMAKE.replace("limpid::limpid", f"limpid::{target}"))
    run("cmake", "-S", source, "-B", source / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", source / "build")
    assert run(source / "build/consumer").startswith("80,443 refused ")
    assert is_linked_to_the_library(source / "build/consumer") == is_shared


def pkg_config(prefix, *flags):
    found = next(prefix.rglob("limpid.pc")).parent
    return run("pkg-config", "--cflags", "--libs", *flags, "limpid", env={**os.environ, "PKG_CONFIG_PATH": str(found)}).split()


def test_a_program_builds_with_pkg_config_and_runs(prefix, source):
    flags = pkg_config(prefix)
    assert "-lfmt" not in flags, "the shared library knows itself what it needs"
    run("g++", "-std=c++23", source / "main.cc", "-o", source / "consumer", *flags)
    assert is_linked_to_the_library(source / "consumer")
    folder = next(prefix.rglob("liblimpid.so.1")).parent
    assert run(source / "consumer", env={**os.environ, "LD_LIBRARY_PATH": str(folder)}).startswith("80,443 refused ")


def test_a_program_is_linked_with_the_archive_and_runs(prefix, source):
    archive = next(prefix.rglob("liblimpid.a"))
    flags = [str(archive) if flag == "-llimpid" else flag for flag in pkg_config(prefix, "--static")]
    run("g++", "-std=c++23", source / "main.cc", "-o", source / "consumer", *flags)
    assert not is_linked_to_the_library(source / "consumer")
    assert run(source / "consumer").startswith("80,443 refused ")
