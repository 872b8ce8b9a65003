"""limpid top in a real terminal (tmux), with real flows: what it shows, keys, sizes, and the terminal as it was afterwards."""

import json
import os
import shlex
import signal
import subprocess

import pytest

import limpid_process
from control_client import Control, verb
from peers import exchange, wait_until


class Screen:
    """A shell in a tmux server of the test's own."""

    def __init__(self, name, columns, lines):
        self._tmux = ["tmux", "-L", name, "-f", "/dev/null"]
        self._run("new-session", "-d", "-x", str(columns), "-y", str(lines), "env PS1='ready> ' sh")
        self.sees("ready>")

    def _run(self, *arguments):
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=10, env=environment).stdout

    def text(self):
        return self._run("capture-pane", "-p")

    def type(self, *keys):
        self._run("send-keys", *keys)

    def resize(self, columns, lines):
        self._run("resize-window", "-x", str(columns), "-y", str(lines))

    def modes(self):
        """What the terminal would do: alternate screen, cursor shown; and how it treats keys."""
        shown = self._run("display-message", "-p", "#{alternate_on} #{cursor_flag} #{pane_tty}").split()
        stty = subprocess.run(["stty", "-a", "-F", shown[2]], check=True, capture_output=True, text=True).stdout
        return shown[:2], [word for word in stty.split() if word.strip(";") in ("icanon", "echo", "-icanon", "-echo", "ixon", "icrnl")]

    def sees(self, *texts):
        seen = ""

        def all_there():
            nonlocal seen
            seen = self.text()
            return seen if all(text in seen for text in texts) else None
        try:
            return wait_until(all_there, f"{texts} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen}") from error

    def process(self):
        """limpid top, below the shell."""
        shell = self._run("display-message", "-p", "#{pane_pid}").strip()
        with open(f"/proc/{shell}/task/{shell}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def close(self):
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=10)


@pytest.fixture
def terminal(need, run_directory):
    need("tmux", "tmux")
    made = []

    def open_one(columns, lines):
        made.append(Screen(f"{os.path.basename(run_directory)}-{len(made)}", columns, lines))
        return made[-1]
    yield open_one
    for each in made:
        each.close()


def is_over(connection):
    try:
        while connection.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True


def test_it_shows_kills_resizes_and_leaves_the_terminal_as_it_was(lab, start, terminal):
    start("--tcp", "80", "--udp", "9")
    listener = lab.server.listen(80)
    keep, victim = lab.dial_relayed(listener), lab.dial_relayed(listener)
    server, asking = lab.server.datagrams(9), lab.client.datagrams()
    asking.sendto(b"one", (lab.server.address, 9))
    _, seen = server.recvfrom(100)
    server.sendto(b"two", seen)
    exchange(victim.client, victim.server, count=50_000)

    screen = terminal(80, 24)
    before = screen.modes()
    top = shlex.quote(limpid_process.BINARY) + " top --interval 200ms"
    screen.type(f"clear; {top}", "Enter")
    text = screen.sees("tcp 2", "udp 1", "CLIENT", "q quit")
    assert max(len(line) for line in text.splitlines()) <= 80 and len(text.splitlines()) == 24, text
    assert screen.modes()[0] == ["1", "0"]

    # Rates are those of the traffic.
    keep.client.sendall(b"x" * 100_000)
    screen.sees("highest")
    wait_until(lambda: not screen.text().splitlines()[1].rstrip().endswith(" 0"), "the history shows the burst")

    # Most bytes on top; look at it, kill it.
    victim_id = next(flow["id"] for flow in Control().flows(sort="bytes", limit=10)["flows"] if flow["bytes_up"] == 50_000)
    port = str(victim.client.getsockname()[1])
    screen.type("/")
    screen.type(port)
    screen.type("Enter")
    screen.sees(f'filter "{port}"', "1 shown")
    screen.type("Enter")
    screen.sees(f"flow {victim_id}", "50000 bytes")
    screen.type("k")
    screen.sees(f"kill {victim_id}", "y/n")
    screen.type("n")
    screen.sees("not killed")
    exchange(victim.client, victim.server)
    screen.type("k")
    screen.sees("y/n")
    screen.type("y")
    screen.sees("is over")
    assert is_over(victim.client) and is_over(victim.server)
    screen.type("Escape")
    screen.sees("0 shown")
    screen.type("Escape")
    screen.sees("2 shown")

    # Groups, help, pause, other sizes.
    screen.type("g")
    screen.sees("group client", "1 groups", "GROUP")
    screen.type("h")
    screen.sees("next grouping")
    screen.type("x")
    screen.type("p")
    screen.sees("PAUSED", "GROUP")
    screen.type("p")
    screen.resize(50, 10)
    assert len(screen.sees("GROUP", "group client").splitlines()) == 10
    screen.resize(140, 40)
    screen.type("Escape", "g", "g", "g", "g", "g")
    screen.sees("UPSTREAM", "NAME", "2 shown")

    # Stopped, and continued.
    screen.type("C-z")
    screen.sees("ready>")
    assert screen.modes() == before
    screen.type("fg", "Enter")
    screen.sees("CLIENT", "2 shown")
    screen.type("q")
    screen.sees("ready>")
    assert screen.modes() == before

    # By signals.
    for ending in (signal.SIGTERM, signal.SIGINT):
        screen.type(f"clear; {top}", "Enter")
        screen.sees("CLIENT")
        os.kill(screen.process(), ending)
        screen.sees("ready>")
        assert screen.modes() == before
        screen.type("echo status=$?", "Enter")
        screen.sees("status=0")


def test_an_instance_that_goes_is_waited_for(lab, start, terminal):
    first = start("--tcp", "80")
    screen = terminal(80, 8)
    screen.type(shlex.quote(limpid_process.BINARY) + " top --interval 200ms --color=never", "Enter")
    screen.sees("tcp 0")
    assert first.stop() == 0
    screen.sees("trying again")
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    text = screen.sees("tcp 1")
    assert "trying again" not in text
    exchange(connection.client, connection.server)
    screen.type("q")
    screen.sees("ready>")


def test_once_and_without_a_terminal(lab, start):
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server, count=1234)
    text = verb(lab, "top", "--once", "--interval", "100ms").stdout
    assert "serving" in text and "DESTINATION" in text and "\x1b" not in text
    seen = json.loads(verb(lab, "top", "--once", "--json", "--interval", "100ms").stdout)
    row, = seen["rows"]
    assert (seen["schema"], seen["flows"]["tcp"], row["bytes_up"], row["bytes_down"]) == (1, 1, 1234, 1234)
    assert row["bytes_up_per_second"] == 0 and lab.client.address in row["client"]
    group, = json.loads(verb(lab, "top", "--once", "--json", "--group", "client", "--interval", "100ms").stdout)["rows"]
    assert (group["group"], group["flows"]) == (lab.client.address, 1)
    refused = verb(lab, "top")
    assert refused.returncode == limpid_process.USAGE and "--once" in refused.stderr
    for wrong in (("--sort", "size"), ("--group", "x"), ("--interval", "1ms"), ("--limit", "0"), ("--color", "blue"), ("--json",)):
        assert verb(lab, "top", *wrong).returncode == limpid_process.USAGE, wrong
    assert verb(lab, "top", "--once", "--name", "nobody").returncode == limpid_process.FAILURE
