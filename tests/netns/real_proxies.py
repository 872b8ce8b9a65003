"""The proxies of other people, started on the lab's router out of the very lines that `limpid rules config` prints."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import limpid_process
from peers import wait_until

PORT = 3129
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

# What each test has to have: program, Debian package.
NEEDS = {
    "squid": ("squid", "squid"),
    "haproxy": ("haproxy", "haproxy"),
    "nginx": ("nginx", "nginx"),
    "nginx-http": ("nginx", "nginx"),
    "trafficserver": ("traffic_server", "trafficserver"),
    "mitmproxy": ("mitmdump", "mitmproxy"),
}


# Squid's shared memory, which stays when it is killed, goes with its mount namespace.
WITH_SHARED_MEMORY_OF_ITS_OWN = ("unshare", "-m", "sh", "-ec", 'mount -t tmpfs none /dev/shm; exec "$@"', "sh")


def squid(service, configuration):
    """Its command."""
    return [*WITH_SHARED_MEMORY_OF_ITS_OWN, "squid", "-N", "-n", service, "-f", configuration]


def rules(host, verb, *arguments, check=True):
    return host.run(limpid_process.BINARY, "rules", verb, *limpid_process.with_backend(f"rules {verb}", arguments), check=check)


class RealProxy:
    """One of NEEDS. `flags` are those of `limpid rules`; `spoil` changes the printed lines, to make a mistake in them."""

    def __init__(self, name, lab, folder, flags=(), spoil=None, user="", exec_user=""):
        self.name, self._lab, self._folder = name, lab, folder
        self.flags = ["--for", name, "--tcp", "80", "--to-port", str(PORT), *flags]
        self.printed = json.loads(rules(lab.router, "config", *self.flags, "--json").stdout)
        self._spoil = spoil or (lambda text: text)
        self._user = user  # HAProxy's `user`
        self._exec_user = exec_user
        command = self.printed["command"]
        if exec_user:
            command = command.replace("limpid exec ", f"limpid exec --user {exec_user} ")
        self._command = [limpid_process.BINARY if word == "limpid" else word for word in shlex.split(self._spoil(command))]
        self.process = None
        self._service = f"test{os.getpid()}"
        self._shared_before = set(Path("/dev/shm").glob(f"{self._service}-*"))

    def lines(self, number=0):
        return self._spoil("\n".join(self.printed["files"][number]["lines"])) + "\n"

    def start(self):
        argv = {"squid": self._squid, "haproxy": self._haproxy, "nginx": self._nginx, "nginx-http": self._nginx,
                "trafficserver": self._trafficserver, "mitmproxy": self._mitmproxy}[self.name]()
        with open(self._folder / "said", "ab") as said:
            self.process = self._lab.router.start(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        wait_until(self._listens, f"{self.name} listens", 60)
        return self

    def _listens(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.said()}"
        listening = self._lab.router.run("ss", "-Hltn").stdout
        families = sum(flag not in self.flags for flag in ("--ipv4-only", "--ipv6-only"))
        return sum(f":{PORT} " in line for line in listening.splitlines()) >= families

    def said(self):
        return "".join(file.read_text(errors="replace")[-3000:] for file in (self._folder / "said", self._folder / "log/diags.log")
                       if file.exists())

    def kill(self):
        """All of it, workers too, as an out-of-memory killer would not even do."""
        if self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        assert set(Path("/dev/shm").glob(f"{self._service}-*")) <= self._shared_before, "a Squid that was killed left its shared memory"
        wait_until(lambda: f":{PORT} " not in self._lab.router.run("ss", "-Hltn").stdout, f"{self.name} is gone")

    def descriptors(self):
        """The most that one of its processes has open."""
        most = 0
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if os.getpgid(int(entry)) == self.process.pid:
                        most = max(most, len(os.listdir(f"/proc/{entry}/fd")))
        return most

    def _write(self, name, text):
        path = self._folder / name
        path.write_text(text)
        return path

    def _squid(self):
        configuration = self._write("squid.conf", self.lines() + (
            "http_access allow all\nhttp_port 127.0.0.1:3130\ncache deny all\naccess_log none\ncache_log /dev/null\n"
            "pid_filename none\nvisible_hostname router\nshutdown_lifetime 0 seconds\npinger_enable off\nnetdb_filename none\n"
            "cache_store_log none\nlogfile_rotate 0\nmax_filedescriptors 1024\n"))
        return squid(self._service, configuration)

    def _haproxy(self):
        user = f"    user {self._user}\n" if self._user else ""
        configuration = self._write("haproxy.cfg", f"global\n    maxconn 500\n{user}defaults\n    timeout connect 5s\n"
                                    f"    timeout client 60s\n    timeout server 60s\n{self.lines()}")
        command = self._command[:self._command.index("--") + 1] if self._command else []
        if self._exec_user:
            command = [limpid_process.BINARY, "exec", "--user", self._exec_user, "--"]
        return [*command, "haproxy", "-db", "-f", configuration]

    def _nginx(self):
        lines = self.lines()
        module = ""
        if self.name == "nginx":
            module = f"load_module {STREAM_MODULE};\n" if STREAM_MODULE.exists() else ""
        else:
            lines = f"http {{\naccess_log off;\n{lines}}}\n"
        configuration = self._write("nginx.conf", f"{module}daemon off;\npid {self._folder}/pid;\nerror_log {self._folder}/said;\n"
                                    f"user www-data;\nworker_processes 2;\nevents {{ }}\n{lines}")
        return [*self._command, "-c", configuration]

    def _trafficserver(self):
        folder = self._folder
        for part in ("etc", "log", "run", "cache"):
            (folder / part).mkdir(exist_ok=True)
        for file in Path("/etc/trafficserver").iterdir():
            if file.is_file():
                shutil.copy(file, folder / "etc")
        records = folder / "etc/records.config"
        ours = {line.split()[1] for line in self.lines().splitlines()}
        kept = [line for line in records.read_text().splitlines() if not (line.split()[1:2] and line.split()[1] in ours)]
        records.write_text("\n".join(kept) + "\n" + self.lines())
        (folder / "etc/storage.config").write_text(f"{folder}/cache 16M\n")
        places = {"prefix": folder, "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin", "sysconfdir": folder / "etc",
                  "datadir": folder / "cache", "includedir": "/usr/include", "libdir": "/usr/lib/trafficserver",
                  "libexecdir": "/usr/lib/trafficserver/modules", "localstatedir": folder / "run", "runtimedir": folder / "run",
                  "logdir": folder / "log", "cachedir": folder / "cache"}
        run_root = self._write("runroot.yaml", "".join(f"{name}: {path}\n" for name, path in places.items()))
        for path in [folder, *folder.rglob("*")]:
            shutil.chown(path, "trafficserver", "trafficserver")
        return ["traffic_server", f"--run-root={run_root}"]

    def _mitmproxy(self):
        return [*self._command, "--set", f"confdir={self._folder}"]


class Origin:
    """A web server on the lab's server: says `the web`, and remembers whom it saw."""

    def __init__(self, lab, port=80):
        self.seen = []  # appended to by the thread only: address and port, request
        self._listener = lab.server.listen(port)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection, peer[:2]), daemon=True).start()

    def _answer(self, connection, peer):
        request = b""
        try:
            with connection:
                connection.settimeout(10)
                while b"\r\n\r\n" not in request:
                    data = connection.recv(1 << 16)
                    if not data:
                        return
                    request += data
                self.seen.append((peer, request))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthe web")
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
        except OSError:
            pass

    def last(self):
        return self.seen[-1][0]


def fetch(host, address, port=80, local_port=0, timeout=10, before_exec=None):
    """What curl says: exit status and text. `local_port` is one that no kernel chooses by itself."""
    shown = f"[{address}]" if ":" in address else address
    argv = ["curl", "-sS", "-m", str(timeout), f"http://{shown}:{port}/page"]
    if local_port:
        argv[1:1] = ["--local-port", str(local_port)]
    process = host.start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, before_exec=before_exec)
    said = process.communicate(timeout=timeout + 10)[0].decode()
    return process.returncode, said
