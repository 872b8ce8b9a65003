"""The dashboard in a real browser: a running flow, rule hits, hostile text as text, narrow and wide, dark and light, by keyboard, and the end of a flow."""

import pytest

from browser import PROGRAM, Browser, pixels_of
from dashboard_client import PORT, TOKEN, write_token
from peers import exchange, read_to_reset

pytestmark = pytest.mark.parametrize("family", ["ipv4"], indirect=True)

HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
def browse(lab, need, tmp_path):
    """browse(url) opens it in a browser on the router."""
    need(PROGRAM, PROGRAM)
    opened = []

    def run(url):
        folder = tmp_path / "browser"
        folder.mkdir()
        opened.append(Browser(lab.router, folder))
        opened[-1].resize(1280, 800)
        opened[-1].open(url)
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def assert_is_no_blank(png, wanted):
    width, height, colours = pixels_of(png)
    assert (width, height) == wanted
    assert len(colours) > 20 and colours.most_common(1)[0][1] < 0.98 * width * height, colours.most_common(3)
    return colours.most_common(1)[0][0]


def test_it_shows_flows_and_rules_and_ends_a_flow_with_the_token(lab, start, configure, browse, tmp_path):
    file = configure(tcp=[80], rules=[f"domain(regex: \"{HOSTILE}\") -> reject", "dport(80) -> direct"])
    start("-c", file, "--dashboard", f"127.0.0.1:{PORT}", "--dashboard-token-file", write_token(tmp_path))
    listener = lab.server.listen(80)
    dialled = lab.client.connect(lab.server.address, 80)
    dialled.sendall(b"GET / HTTP/1.1\r\nHost: shop.example.org\r\n\r\n")
    accepted, _ = listener.accept()
    accepted.settimeout(10)
    accepted.recv(1000)
    page = browse(f"http://127.0.0.1:{PORT}/")
    client = "{}:{}".format(*dialled.getsockname())
    page.wait(f"document.querySelector('#flows tbody').innerText.includes('{client}')")
    shown = page.text("#flows tbody")
    assert "shop.example.org" in shown and f"{lab.server.address}:80" in shown
    page.wait("document.querySelectorAll('#rules tbody tr').length === 2")
    hostile, direct = page.evaluate("[...document.querySelectorAll('#rules tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))")
    assert HOSTILE in hostile[1] and direct[1:3] == ["dport(80) -> direct", "1"]
    assert page.evaluate("document.images.length") == 0 and page.evaluate("document.title").startswith("Limpid limpid")
    assert "installed by" in page.text("#facts")
    page.wait("document.querySelector('#findings, #well').isConnected && document.querySelector('#doctor-note').innerText.startsWith('Looked')", 60)

    # Graphs move: bytes are seen as throughput, and each graph says so to who cannot see it.
    page.wait("document.querySelector('svg path.first').getAttribute('d').includes('L')")
    exchange(dialled, accepted, count=300_000)
    page.wait("/Throughput: up [0-9.]+ [KM]iB/.test(document.querySelector('svg').getAttribute('aria-label'))")

    # Wide and narrow, light and dark: nothing is blank, and nothing sticks out at the side.
    light = assert_is_no_blank(page.screenshot(1280, 800, 0.25), (320, 200))
    page.resize(360, 640, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = assert_is_no_blank(page.screenshot(360, 640, 0.5), (180, 320))
    assert sum(dark) < 200 < 600 < sum(light)
    page.resize(1280, 800)

    # By keyboard: the first stop is the way past the rest; a column's head sorts.
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.className") == "skip"
    page.evaluate("document.querySelector('#flows th[data-name=client] button').focus()")
    page.press("Enter", 13)
    assert page.evaluate("document.querySelector('#flows th[data-name=client]').getAttribute('aria-sort')") == "ascending"
    page.evaluate("document.querySelector('#filter').focus()")
    page.type("rule=1")
    page.wait("document.querySelector('#page-position').innerText === 'none'")
    page.evaluate("document.querySelector('#filter').value = ''; document.querySelector('#filter').dispatchEvent(new Event('input'))")
    page.wait("document.querySelectorAll('#flows tbody tr').length === 1")
    assert page.complaints == []

    # Ending it: not offered without the token, a wrong one is refused, and the right one does it.
    assert page.evaluate("document.querySelector('#flows tbody button').hidden && document.querySelector('#operations').hidden")
    page.click("#sign-in")
    page.type("not the token at all")
    page.press("Enter", 13)
    page.wait("document.querySelector('#token-problem').innerText === 'this is not the token'")
    page.evaluate("document.querySelector('#token').select()")
    page.type(TOKEN)
    page.press("Enter", 13)
    page.wait("!document.querySelector('#token-dialog').open && !document.querySelector('#operations').hidden")
    page.click("#flows tbody button")
    assert client in page.text("#confirm-text")
    exchange(dialled, accepted)
    page.click("#confirm-yes")
    read_to_reset(dialled)
    page.wait("document.querySelectorAll('#flows tbody tr').length === 0")
    # The wrong token's status is all that the browser has complained of.
    assert all("401" in complaint for complaint in page.complaints) and len(page.complaints) == 1, page.complaints


def test_beyond_loopback_it_asks_for_the_token_first(lab, start, browse, tmp_path):
    start("--tcp", "80", "--dashboard", f"{lab.router.address}:{PORT}", "--dashboard-token-file", write_token(tmp_path))
    page = browse(f"http://{lab.router.address}:{PORT}/")
    page.wait("document.querySelector('#token-dialog').open")
    assert page.text("#facts") == ""
    page.type(TOKEN)
    page.press("Enter", 13)
    page.wait("document.querySelector('#facts').innerText.includes('serving')")
    page.open(f"http://{lab.router.address}:{PORT}/")
    page.wait("document.querySelector('#facts').innerText.includes('serving')")
    assert not page.evaluate("document.querySelector('#token-dialog').open"), "the tab remembers it"
    page.click("#sign-out")
    page.wait("sessionStorage.length === 0")
    assert page.complaints == []
