"""What else changes a router's firewall and policy routing: the real firewalld, systemd-networkd and Docker, each in the router's network namespace and
a mount namespace of its own, so that they find nothing of this host's and leave nothing on it."""

import os
import shutil
import signal
import subprocess

import pytest

from peers import wait_until

NETWORKD = "/lib/systemd/systemd-networkd"

# firewalld needs a system bus, and this one has nobody else on it.
_FIREWALLD = """
mount -t tmpfs tmpfs /etc/firewalld && mount -t tmpfs tmpfs /run && mkdir /run/dbus &&
dbus-daemon --system --fork --nopidfile && exec firewalld --nofork --nopid
"""

# It waits for udev unless udev's data base says that it has seen the interface. Its state is written as another user.
_NETWORKD = """
mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run &&
mkdir -p /run/systemd/netif/links /run/systemd/network /run/systemd/networkd.conf.d /run/udev/data && chown -R systemd-network /run/systemd/netif &&
for index in /sys/class/net/*/ifindex; do echo I:1 > /run/udev/data/n$(cat $index); done && touch /run/udev/control &&
printf '%s' "$NETWORK" > /run/systemd/network/test.network &&
printf '%s' "$SETTINGS" > /run/systemd/networkd.conf.d/test.conf &&
exec /lib/systemd/systemd-networkd
"""


_DOCKERD = """
mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs tmpfs /run && mkdir -p /var/lib/docker && mount -t tmpfs tmpfs /var/lib/docker &&
mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && exec dockerd --host unix:///run/docker.sock --storage-driver vfs
"""


class _ThirdParty:
    def __init__(self, host, script, **environment):
        self._host = host
        # A process ID namespace too: whatever it forks ends with it.
        self.process = host.start(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
                                  env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)

    def _child(self):
        """The first process of its namespaces, as it is called here; None before it is there."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        return int(children[0]) if children else None

    def inside(self, *command, check=True, timeout=60):
        """Runs a command beside it, where it finds its sockets."""
        child = self._child()
        if child is None:
            return subprocess.CompletedProcess(command, 1, "", "")
        return self._host.run("nsenter", "--mount", "--target", str(child), *command, check=check, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # networkd changes its user, which takes back that it is killed with its parent.
        child = self._child()
        if child is not None:
            os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


class Firewalld(_ThirdParty):
    """Runs and has its rules in the kernel when the constructor returns."""

    def __init__(self, host):
        for program in ("firewalld", "dbus-daemon"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed: apt-get install firewalld")
        super().__init__(host, _FIREWALLD)
        wait_until(lambda: self.command("--state", check=False).stdout == "running\n", "firewalld is running", 60)

    def command(self, *arguments, check=True):
        """firewall-cmd, beside it."""
        return self.inside("firewall-cmd", *arguments, check=check)


class Docker(_ThirdParty):
    """Runs and has its rules in the kernel when the constructor returns. It has no image and starts no container."""

    def __init__(self, host):
        for program in ("dockerd", "docker"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed: apt-get install docker.io")
        super().__init__(host, _DOCKERD)
        wait_until(lambda: self.command("info", check=False).returncode == 0, "dockerd answers", 60)

    def command(self, *arguments, check=True):
        """docker, beside it."""
        return self.inside("docker", "--host", "unix:///run/docker.sock", *arguments, check=check)


class Networkd(_ThirdParty):
    """Configures one interface: as soon as it does, it deletes the policy rules that it does not know."""

    def __init__(self, host, interface, addresses, settings=""):
        if not os.path.exists(NETWORKD):
            pytest.skip("systemd-networkd is not installed: apt-get install systemd")
        super().__init__(host, _NETWORKD, SETTINGS=settings,
                         NETWORK="\n".join([f"[Match]\nName={interface}\n[Network]", *(f"Address={each}" for each in addresses), ""]))
