"""The source archive: complete, nothing but the commit's files, and the same bytes each time."""
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

SOURCE = pathlib.Path(os.environ["LIMPID_SOURCE"])


def git(*words):
    return subprocess.run(["git", "-C", SOURCE, *words], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("xz") or not shutil.which("git"), reason="git or xz is not installed: apt-get install git xz-utils")
@pytest.mark.skipif(git("rev-parse", "HEAD").returncode != 0, reason="the source is no git checkout")
def test_the_archive_has_the_commit_and_is_reproducible(tmp_path):
    made = []
    for folder, variables in (("one", {"TZ": "UTC"}), ("other", {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "XZ_DEFAULTS": ""})):
        done = subprocess.run([SOURCE / "scripts/make-dist.sh", tmp_path / folder], capture_output=True, text=True, check=False, env={**os.environ, **variables})
        assert done.returncode == 0, done.stderr
        made.append(pathlib.Path(done.stdout.strip()))
        assert [path.name for path in (tmp_path / folder).iterdir()] == [made[-1].name]
    assert made[0].read_bytes() == made[1].read_bytes()
    version = made[0].name.removeprefix("limpid-").removesuffix(".tar.xz")
    assert f'kVersion = "{version}"' in (SOURCE / "include/limpid/version.h").read_text()
    with tarfile.open(made[0]) as archive:
        names = [member.name for member in archive.getmembers() if not member.isdir()]
        assert all(member.uid == 0 and member.mtime == archive.getmembers()[0].mtime for member in archive.getmembers())
    committed = git("ls-tree", "-r", "--name-only", "HEAD").stdout.splitlines()
    assert sorted(names) == sorted(f"limpid-{version}/{name}" for name in committed)
