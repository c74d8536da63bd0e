"""Each check of a page goes off on a page that is broken in just that way, and on no other."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from page_checks import link_problems

GOOD = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>A page</h1><p id="here">Text, and <a href="#here">a link</a>.</p>{}</main></body></html>"""
IMAGE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/%3E"

BROKEN = {
    "nothing": ("", None),
    "console": ("<script>console.error('oh')</script>", r"console: oh"),
    "script": ("<script>throw new Error('oh')</script>", r"script error: .*oh"),
    "request": ("<script src='missing.js'></script>", r"request failed: .*missing\.js"),
    "other host": ("<img alt='Dot' src='http://127.0.0.1:9/a.png'>", r"request to another host: http://127"),
    "image": ("<img alt='Dot' src='missing.png'>", r"image does not load"),
    "alt": (f'<img alt="../_images/a.png" src="{IMAGE}">', r"alt is a file name"),
    "formula": ("<div class='math'>x</div>", r"formulas: 1 of 1"),
    "formula error": (
        "<p><mjx-merror>Undefined control sequence</mjx-merror></p>",
        r"formula with an error: Undefined",
    ),
    "width": ("<div style='width:500px'>wide</div>", r"scrolls sideways at 390 px: 5\d\d px"),
    "weight": ("<img alt='Noise' src='noise.png'>", r"weighs 3\.\d\d MB"),
    "contrast": ("<p style='color:#999;background:#fff'>pale</p>", r"axe, light: color-contrast"),
    "dark": ("<style>[data-theme=dark] p{color:#bbb;background:#fff}</style>", r"axe, dark: color-contrast"),
    "name": ("<button></button>", r"axe, light: button-name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_page(tmp_path, checks, name):
    body, expected = BROKEN[name]
    (tmp_path / "page.html").write_text(GOOD.format(body))
    (tmp_path / "noise.png").write_bytes(IMAGE_OF_3_MB)
    problems = checks.problems(tmp_path / "page.html")
    if expected is None:
        assert problems == []
    else:
        assert any(re.match(expected, problem) for problem in problems), problems


def _png(size: int) -> bytes:
    """A picture of about so many bytes: noise, which does not compress."""
    side = round((size / 3) ** 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    image.imsave(file := io.BytesIO(), pixels, format="png")
    return file.getvalue()


IMAGE_OF_3_MB = _png(3_000_000)


def test_audio_has_a_larger_budget(tmp_path, checks):
    (tmp_path / "noise.png").write_bytes(_png(1_300_000))
    light, heavy = tmp_path / "light.html", tmp_path / "heavy.html"
    heavy.write_text(GOOD.format("<img alt='Noise' src='noise.png'>"))
    light.write_text(GOOD.format("<img alt='Noise' src='noise.png'><audio controls aria-label='Tone'></audio>"))
    weights = [[p for p in checks.problems(file, axe=False) if "weighs" in p] for file in (light, heavy)]
    assert not weights[0]
    assert weights[1]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("page.html#here", None),
        ("page.html", None),
        ("https://example.org/nowhere", None),
        ("missing.html", "no file"),
        ("page.html#nowhere", "no place"),
        ("#nowhere", "no place"),
    ],
)
def test_links(tmp_path, link, expected):
    (tmp_path / "page.html").write_text(GOOD.format(f'<a href="{link}">again</a>'))
    problems = link_problems(tmp_path)
    assert [expected in problem for problem in problems] == ([] if expected is None else [True])


def test_a_missing_browser_says_how_to_install_one(tmp_path):
    (tmp_path / "index.html").write_text(GOOD.format(""))
    command = [sys.executable, "-m", "pytest", "-q", "-k", "index.html", str(Path(__file__).with_name("test_site.py"))]
    environment = {**os.environ, "PATH": "", "BOOK_SITE": str(tmp_path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert "apt-get install chromium" in run.stdout
