"""Sphinx extension: a site that loads nothing from elsewhere, and whose lists of references are accessible.

MathJax 3 comes out of the wheel ``sphinx-mathjax-offline``. Thebe, which Jupyter Book adds to every page, goes.
With the address of the published site in the variable BOOK_URL, the pages also get what search engines and
link previews read; without it, they name no address.
"""

import importlib.util
import io
import os
import re
import shutil
from pathlib import Path

from PIL import Image

# What MathJax loads for TeX input and HTML output, with its menu and its speech for screen readers: 4 of 24 MB.
MATHJAX = [
    "tex-chtml.js",
    "input/tex/extensions",
    "output/chtml/fonts/woff-v2",
    "a11y",
    "ui",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
]


def copy_mathjax(app, exception) -> None:
    """Copy MathJax into the site's static folder."""
    if exception is not None or app.builder.format != "html":
        return
    source = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir, "_static", "mathjax")
    for name in MATHJAX:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, target / name)


# What is wrong in a page's body, and what stands there instead.
BODY = [
    (re.compile(r'<script type="text/x-thebe-config">.*?</script>\s*<script>.*?</script>', re.DOTALL), ""),
    (re.compile(r'(<section[^>]*) id="(?:proof|exercise|solution)-content"'), r"\1"),  # the same id in every box
    (re.compile(r'<div class="proof admonition" id="proof">\s*<p>Proof\. '), '<div class="proof"><p><em>Proof.</em> '),
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),  # as the list around it requires
    (re.compile(r'<th class="head">(?:<p></p>)?</th>'), "<td></td>"),  # the corner of a table heads nothing
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),  # its text is its name
]


def clean_page(app, pagename, templatename, context, doctree) -> None:
    """Drop Thebe from the page, and repair markup that is invalid or that a screen reader cannot use."""

    def is_thebe(file) -> bool:
        return "thebe" in f"{getattr(file, 'filename', '')} {getattr(file, 'attributes', {}).get('body', '')}".lower()

    for files in ("script_files", "css_files"):
        context[files] = [file for file in context.get(files, []) if not is_thebe(file)]
    for pattern, replacement in BODY:
        context["body"] = pattern.sub(replacement, context.get("body") or "")
    if sidebar := context.get("generate_toctree_html"):
        name = '<summary aria-label="Pages of this chapter">'
        context["generate_toctree_html"] = lambda **options: str(sidebar(**options)).replace("<summary>", name)


ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")


def drop_icon_script(app, exception) -> None:
    """Leave the icons to the theme's style sheet, which has them all as a font: 1.5 MB less for each page."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if (lighter := ICONS.sub("", text)) != text:
            page.write_text(lighter, encoding="utf-8")
    for file in Path(app.outdir, "_static", "scripts").glob("fontawesome.*"):
        file.unlink()


def shrink_images(app, exception) -> None:
    """Store a picture with a palette of 256 colors where that is smaller: no figure needs more."""
    if exception is not None or app.builder.format != "html":
        return
    for file in Path(app.outdir, "_images").glob("*.png"):
        picture = Image.open(file)
        if picture.mode == "P":
            continue
        opaque = picture.mode != "RGBA" or picture.getextrema()[3][0] == 255
        method = Image.Quantize.MEDIANCUT if opaque else Image.Quantize.FASTOCTREE  # the latter can do transparency
        small = picture.convert("RGB" if opaque else "RGBA").quantize(256, method=method, dither=Image.Dither.NONE)
        small.save(content := io.BytesIO(), "PNG", optimize=True)
        if content.tell() < file.stat().st_size:
            file.write_bytes(content.getvalue())


def announce_address(app, config) -> None:
    """Add sitemap and link previews if the address of the site is known."""
    if url := os.environ.get("BOOK_URL", "").rstrip("/"):
        config.html_baseurl = config.ogp_site_url = f"{url}/"
        config.sitemap_url_scheme = "{link}"
        config.ogp_social_cards = {"enable": False}


def setup(app):
    """Register the extension with Sphinx."""
    if os.environ.get("BOOK_URL"):
        app.setup_extension("sphinx_sitemap")
        app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", announce_address)
    app.connect("html-page-context", clean_page, priority=900)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_icon_script)
    app.connect("build-finished", shrink_images)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
