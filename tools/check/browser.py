"""Pages of this program in headless Chromium: what their text is once they are laid out, what they load, and what they look like."""

import json
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import zlib

BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
DARK = "--blink-settings=preferredColorScheme=0"
# What the page itself cannot tell: the colours in force, whether anything is wider than the window, what went wrong.
_PROBE = """<script>window.onload = () => { const page = document.documentElement;
document.title = JSON.stringify({back: getComputedStyle(document.body).backgroundColor, text: getComputedStyle(document.body).color,
  wide: page.scrollWidth > page.clientWidth, cells: document.querySelectorAll('table.heat td[title]').length,
  marked: document.querySelectorAll('table.heat td.first').length, rows: document.querySelectorAll('table tr').length,
  loads: performance.getEntriesByType('resource').length}); };</script>"""


def _run(page, width, *flags):
    with tempfile.TemporaryDirectory() as profile:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={width},900", *flags]
        return subprocess.run([*command, pathlib.Path(page).as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout


def seen(page, width, *flags):
    """(text of the page, what the probe saw)."""
    page = pathlib.Path(page)
    probed = page.with_name("probed-" + page.name)
    probed.write_text(page.read_text().replace("</body>", _PROBE + "</body>"))
    text = _run(probed, width, *flags, "--dump-dom")
    return text, json.loads(re.search(r"<title>(.*?)</title>", text)[1])


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


def screenshot(page, width, *flags):
    """Rows of (red, green, blue) of the window."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "page.png"
        _run(page, width, *flags, f"--screenshot={path}")
        return pixels(path.read_bytes())


def pixels(png):
    """A PNG of 8 bits a channel, not interlaced (PNG specification, sections 5 and 9)."""
    at, data, head = 8, b"", None
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + size]
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", body)
        if kind == b"IDAT":
            data += body
        at += size + 12
    width, height, depth, colour, _, _, interlaced = head
    if depth != 8 or colour not in (2, 6) or interlaced:
        raise ValueError(f"a PNG of depth {depth}, colour {colour}")
    step, raw, above, out = (3 if colour == 2 else 4), zlib.decompress(data), None, []
    stride = width * step
    for y in range(height):
        start = y * (stride + 1)
        line = _unfilter(raw[start], bytearray(raw[start + 1:start + 1 + stride]), above or bytes(stride), step)
        out.append([tuple(line[x:x + 3]) for x in range(0, stride, step)])
        above = line
    return out


def _unfilter(kind, line, above, step):
    for i in range(len(line)):
        left = line[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        if kind == 1:
            add = left
        elif kind == 2:
            add = above[i]
        elif kind == 3:
            add = (left + above[i]) // 2
        elif kind == 4:
            add = _paeth(left, above[i], corner)
        else:
            add = 0
        line[i] = (line[i] + add) & 255
    return line


def _paeth(left, up, corner):
    guess = left + up - corner
    return min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
