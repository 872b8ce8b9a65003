"""This machine's own file system, to be changed without changing it: an overlay in a mount namespace that ends with the test, however it ends."""
import os
import pathlib
import stat
import subprocess

# The holder waits for its standard input to end; the namespace, with all mounts, goes with it. /proc and /dev are the machine's; /run is an empty one,
# because others run here meanwhile.
HOLD = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root" "$1/run"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind "$1/run" "$1/root/run"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mkdir -p "$1/root$2"
mount --bind "$2" "$1/root$2"
echo ready
exec cat
"""


class ThrowawayRoot:
    """`shared`: a folder of the machine that is seen inside under the same path."""

    def __init__(self, folder, shared):
        folder.mkdir()
        self._shared = shared
        self._holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD, "sh", folder, shared], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.error = "" if self._holder.stdout.readline() == "ready\n" else self._holder.stderr.read()
        self._root = folder / "root"
        inside = pathlib.Path(f"/proc/{self._holder.pid}/root{folder}")
        self.path, self._changes, self._run = inside / "root", inside / "upper", inside / "run"

    def run(self, *command, check=True, **options):
        """A program in there; its output, of both kinds."""
        done = subprocess.run(["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", "chroot", self._root, *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}, **options)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout if check else done

    def changes(self):
        """What is there and was not, or is otherwise than it was: path → how. The overlay's upper layer has nothing else."""
        found = {}
        for folder, folders, files in os.walk(self._changes):
            for name in folders + files:
                path = pathlib.Path(folder, name)
                inside = "/" + str(path.relative_to(self._changes))
                if how := _difference(path, pathlib.Path(inside)):
                    found[inside] = how
        found |= {"/run/" + str(path.relative_to(self._run)): "new" for path in self._run.rglob("*")}
        found.pop(self._shared, None)
        return found

    def close(self):
        self._holder.stdin.close()
        self._holder.wait(30)


def _difference(now, before):
    there = now.lstat()
    if stat.S_ISCHR(there.st_mode) and there.st_rdev == 0:
        return "gone"  # a whiteout of overlayfs
    if not os.path.lexists(before):
        return "new"
    was = before.lstat()
    if (was.st_mode, was.st_uid, was.st_gid) != (there.st_mode, there.st_uid, there.st_gid):
        return "other owner or mode"
    if stat.S_ISLNK(was.st_mode) and os.readlink(now) != os.readlink(before):
        return "leads elsewhere"
    if stat.S_ISREG(was.st_mode) and now.read_bytes() != before.read_bytes():
        return "other content"
    return None
