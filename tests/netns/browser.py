"""A headless Chromium in a namespace of the lab, driven through a pipe by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import json
import os
import selectors
import struct
import time
import zlib
from collections import Counter

from peers import wait_until

PROGRAM = "chromium"
_SECONDS = 30


class Browser:
    """One page. Everything that it complains of is in `complaints`."""

    def __init__(self, host, folder):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"]
        with open(folder / "browser.log", "wb") as log:
            # It reads from descriptor 3 and writes to 4.
            self.process = host.start(["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "browser", PROGRAM, *flags], stdout=log, stderr=log,
                                      pass_fds=(to_browser, from_browser), env={**os.environ, "HOME": str(folder)})
        os.close(to_browser)
        os.close(from_browser)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._pending = b""
        self._number = 0
        self._session = None
        self.complaints = []
        target = self._command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._command(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        self._selector.close()
        os.close(self._read)
        os.close(self._write)

    def _message(self, deadline):
        while b"\0" not in self._pending:
            assert self._selector.select(max(0, deadline - time.monotonic())), "the browser does not answer"
            read = os.read(self._read, 1 << 20)
            assert read, "the browser has ended"
            self._pending += read
        text, self._pending = self._pending.split(b"\0", 1)
        return json.loads(text)

    def _command(self, method, **parameters):
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._write, json.dumps(order).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while True:
            message = self._message(deadline)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                return message["result"]
            self._note(message)

    def _note(self, event):
        said = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"].get("exception", {}).get("description", str(said)))
        elif event.get("method") == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif event.get("method") == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(said["args"]))

    def open(self, url):
        self.evaluate("window.isLeft = true")
        outcome = self._command("Page.navigate", url=url)
        assert "errorText" not in outcome, outcome
        self.wait("!window.isLeft && document.readyState === 'complete'")

    def evaluate(self, expression):
        outcome = self._command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in outcome, (expression, outcome)
        return outcome["result"].get("value")

    def wait(self, expression, seconds=15):
        """Until it is true; its value."""
        return wait_until(lambda: self.evaluate(expression), expression, seconds)

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            self._command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code or 0, **({"text": "\r"} if key == "Enter" else {}))

    def type(self, text):
        self._command("Input.insertText", text=text)

    def resize(self, width, height, dark=False):
        self._command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, width, height, scale=1.0):
        """PNG, of the upper left part of the page."""
        area = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
        return base64.b64decode(self._command("Page.captureScreenshot", format="png", clip=area)["data"])


def pixels_of(png):
    """Width, height, and how often each colour stands in a PNG of 8 bits a channel without interlace (RFC 2083)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", png[at + 8:at + 8 + length])
            assert (depth, interlace) == (8, 0) and colour in (2, 6)
        elif kind == b"IDAT":
            data += png[at + 8:at + 8 + length]
        at += length + 12
    size = 3 if colour == 2 else 4
    raw, above, colours = zlib.decompress(data), bytes(width * size), Counter()
    for row in range(height):
        start = row * (width * size + 1)
        kind, line = raw[start], bytearray(raw[start + 1:start + 1 + width * size])
        for i, byte in enumerate(line):
            left = line[i - size] if i >= size else 0
            up, corner = above[i], above[i - size] if i >= size else 0
            distances = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
            paeth = (left, up, corner)[distances.index(min(distances))]
            line[i] = (byte + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        above = bytes(line)
        colours.update(above[i:i + 3] for i in range(0, len(above), size))
    return width, height, colours
