"""What is checked of a built page: in Chromium, opened as a file; and its links, read from the HTML.

``BrowserChecks.problems(file)`` and ``link_problems(site)`` return a list of sentences, empty for a good page.
"""

import gzip
import re
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from bs4 import BeautifulSoup

WIDTHS = (1280, 390)
THEMES = ("light", "dark")
BUDGET, BUDGET_WITH_AUDIO = 1.5e6, 2e6  # bytes of a page and of all that it loads, as a web server compresses them
COMPRESSED = {".html", ".css", ".js", ".svg", ".json"}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "The site is checked in Chromium, which is not installed: apt-get install chromium, or your system's own way."


def axe_source() -> str:
    """axe-core as one script: the wheel ``axe-playwright-python`` carries it."""
    import axe_playwright_python

    return Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


@cache
def size(file: Path) -> int:
    """Bytes of a file as a web server sends it."""
    content = file.read_bytes()
    return len(gzip.compress(content)) if file.suffix in COMPRESSED else len(content)


def local_file(url: str) -> Path:
    """The file behind a file: address."""
    return Path(unquote(urlsplit(url).path))


class BrowserChecks:
    """One Chromium with one tab, in which page after page is opened."""

    def __init__(self, playwright):
        self.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        self.axe = axe_source()

    def problems(self, file: Path, *, axe: bool = True) -> list[str]:
        """Everything that is wrong with one page, in both themes and at both widths."""
        context = self.browser.new_context(viewport={"width": WIDTHS[0], "height": 900}, color_scheme=THEMES[0])
        page, found, requests = context.new_page(), [], set()
        page.on("console", lambda m: found.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: found.append(f"script error: {error}"))
        page.on("requestfailed", lambda request: found.append(f"request failed: {request.url}"))
        page.on("request", lambda request: requests.add(request.url))
        try:
            page.goto(file.as_uri())
            page.wait_for_function("!window.MathJax || !!MathJax.startup?.promise", timeout=20_000)
            page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => null) : null")
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
            self._scroll(page)
            found += [f"request to another host: {url}" for url in sorted(requests) if not self._is_own(url)]
            found += page.evaluate(CONTENT)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    found.append(f"scrolls sideways at {width} px: {wide} px wide")
            found += self._weight(requests, page)
            page.wait_for_timeout(700)  # the theme puts what scrolls into the tab order half a second after a resize
            for theme in THEMES if axe else ():
                page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
                found += self._axe(page, theme)
        finally:
            context.close()
        return found

    @staticmethod
    def _is_own(url: str) -> bool:
        return url.startswith(("file:", "data:", "blob:", "about:"))

    @staticmethod
    def _scroll(page) -> None:
        """Bring everything that loads late into view."""
        page.evaluate(
            """async () => {
                for (let y = 0; y < document.documentElement.scrollHeight; y += 900) {
                    window.scrollTo(0, y);
                    await new Promise(requestAnimationFrame);
                }
                window.scrollTo(0, 0);
                await Promise.all([...document.images].map(i => i.decode().catch(() => null)));
            }"""
        )

    @staticmethod
    def _weight(requests, page) -> list[str]:
        files = {local_file(url) for url in requests if url.startswith("file:")}
        weight = sum(size(file) for file in files if file.is_file())
        budget = BUDGET_WITH_AUDIO if page.query_selector("audio") else BUDGET
        return [f"weighs {weight / 1e6:.2f} MB, more than {budget / 1e6} MB"] if weight > budget else []

    def _axe(self, page, theme: str) -> list[str]:
        page.evaluate(self.axe)
        # "preload" would fetch every style sheet once more, which the browser forbids to a page opened as a file.
        rules = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"], "preload": False}
        violations = page.evaluate("rules => axe.run(document, rules).then(r => r.violations)", rules)
        return [
            f"axe, {theme}: {v['id']} ({v['help']}): {v['nodes'][0]['html'][:120]}" + f" and {len(v['nodes']) - 1} more"
            for v in violations
        ]


# Runs in the page: formulas, images.
CONTENT = r"""() => {
    const found = [];
    const formulas = [...document.querySelectorAll(".math")];
    const plain = formulas.filter((formula) => !formula.querySelector("mjx-container"));
    if (plain.length) found.push(`formulas: ${plain.length} of ${formulas.length} are not rendered`);
    for (const error of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
        found.push(`formula with an error: ${error.textContent.slice(0, 80)}`);
    for (const image of document.images) {
        if (!image.complete || !image.naturalWidth) found.push(`image does not load: ${image.src.slice(-80)}`);
        if (/_images\/|\.(png|svg|jpe?g|gif)$/i.test(image.alt)) found.push(`alt is a file name: ${image.alt}`);
    }
    return found;
}"""


def pages(site: Path) -> list[Path]:
    """Every page of the book: not the theme's own static files."""
    return [file for file in sorted(site.rglob("*.html")) if "_static" not in file.relative_to(site).parts]


@cache
def _parsed(file: Path) -> tuple[list[str], set[str]]:
    """Links and anchors of a page."""
    soup = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
    links = [tag[name] for name in ("href", "src") for tag in soup.find_all(attrs={name: True})]
    anchors = {tag["id"] for tag in soup.find_all(id=True)} | {
        tag["name"] for tag in soup.find_all("a", attrs={"name": True})
    }
    return links, anchors


def link_problems(site: Path) -> list[str]:
    """Internal links without a target: a missing file, or a missing anchor in it."""
    found = []
    for page in pages(site):
        for link in _parsed(page)[0]:
            if re.match(r"[a-z][a-z+.-]*:|//", link, re.IGNORECASE):
                continue
            path, anchor = urldefrag(link)
            target = page if not path else (page.parent / unquote(path.partition("?")[0])).resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{page.relative_to(site)}: {link} leads to no file")
            elif anchor and target.suffix == ".html" and unquote(anchor) not in _parsed(target)[1]:
                found.append(f"{page.relative_to(site)}: {link} leads to no place in its page")
    return found
