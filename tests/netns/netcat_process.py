"""A running `limpid nc`: its input and output as bytes, its messages, its end."""

import os
import select
import subprocess

import limpid_process
from lab import SECONDS
from peers import wait_until


class Netcat:
    """Starts at once. `stdin`: bytes to send and then the end, None for /dev/null, or subprocess.PIPE to write by hand."""

    def __init__(self, host, folder, arguments, stdin=None):
        self._messages = folder / "stderr"
        self.arguments = [str(argument) for argument in arguments]
        source = subprocess.DEVNULL
        if isinstance(stdin, bytes):
            (folder / "stdin").write_bytes(stdin)
            source = open(folder / "stdin", "rb")
        elif stdin is not None:
            source = stdin
        with open(self._messages, "wb") as messages:
            self.process = host.start([limpid_process.BINARY, "nc", *self.arguments], stdin=source,
                                      stdout=subprocess.PIPE, stderr=messages)
        if isinstance(stdin, bytes):
            source.close()

    @property
    def messages(self):
        return self._messages.read_text(errors="replace")

    def says(self, text):
        """Waits for a message (most need -v)."""
        wait_until(lambda: text in self.messages or self.process.poll() is not None, f"it says {text!r}")
        assert text in self.messages, f"{self.arguments}: ended with {self.process.poll()}:\n{self.messages}"
        return self

    def listening(self):
        return self.says("listening on")

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close_input(self):
        self.process.stdin.close()
        self.process.stdin = None

    def read(self, count):
        """That many bytes of its output, or what came before its end."""
        output, received = self.process.stdout.fileno(), bytearray()
        while len(received) < count:
            ready, _, _ = select.select([output], [], [], SECONDS)
            assert ready, f"{self.arguments}: {len(received)} of {count} bytes, then silence\n{self.messages}"
            data = os.read(output, min(1 << 20, count - len(received)))
            if not data:
                break
            received += data
        return bytes(received)

    def read_to_end(self):
        return self.read(1 << 40)

    def output(self, seconds=SECONDS):
        """Waits for the end, which must be a good one, and returns the rest of its output."""
        output, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, f"{self.arguments}: {self.process.returncode}\n{self.messages}"
        return output

    def status(self, seconds=SECONDS):
        self.process.communicate(timeout=seconds)
        return self.process.returncode
