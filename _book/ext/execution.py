"""Sphinx extension: run every notebook again when the package or the lock changed, and name the cell that failed.

The execution cache knows a notebook by its own code. It cannot see that a function the notebook calls has
changed, so this extension drops the cache whenever the fingerprint of ``genai_course`` and ``requirements.lock``
is another one than last time. The notebooks that the tests have run are in the cache too: see ``nbval_to_book``.
"""

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def fingerprint(root: Path) -> str:
    """Return a digest of everything outside a notebook that its outputs depend on."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    code = [p for p in sorted((root / "genai_course").rglob("*")) if p.suffix in {".py", ".js", ".css"}]
    for path in [root / "requirements.lock", *code]:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fresh_cache(root: Path) -> Path:
    """Return the folder of the execution cache, emptied if the fingerprint changed."""
    cache = root / "_build/.jupyter_cache"
    stamp, current = cache / "course_fingerprint", fingerprint(root)
    if not stamp.exists() or stamp.read_text() != current:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        stamp.write_text(current)
    return cache


def use_fresh_cache(app, config) -> None:
    """Tell MyST-NB where the cache is. The fingerprint, as a setting, makes Sphinx read every page when it changes."""
    cache = fresh_cache(Path(app.srcdir))
    config.course_fingerprint = (cache / "course_fingerprint").read_text()
    config.nb_execution_cache_path = str(cache)


def failure(notebook: Path, log: str) -> str:
    """Return which cell the log of a notebook's run complains about, counted as nbval counts, and the error."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log).strip()
    timeout = re.search(r"CellTimeoutError: (.*)", log)
    error = timeout[1] if timeout else log.splitlines()[-1]
    for index, cell in enumerate(c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"):
        lines = cell.source.strip().split("\n")
        # The log quotes a cell in full; if it is long and ran out of time, as a list of its first lines.
        if lines[0] and (f"---\n{cell.source}\n---" in log or f"---\n{lines[:5]}\n..." in log):
            return f"Cell {index} ({lines[0]}): {error}"
    return f"cell unknown: {error}"


def name_failures(app, exception) -> None:
    """Print one line for every notebook that failed: notebook, cell, error."""
    env = app.env

    def report(docname: str, text: str) -> None:
        LOGGER.error("FAILED %s::%s", Path(env.doc2path(docname)).relative_to(app.srcdir), text)

    for docname, metadata in getattr(env, "nb_metadata", {}).items():
        if log := metadata.get("exec_data", {}).get("traceback"):
            report(docname, failure(Path(env.doc2path(docname)), log))
    if exception is not None and (docname := env.temp_data.get("docname")):  # a kernel that died stops the build
        report(docname, str(exception))


def setup(app):
    """Register the extension with Sphinx."""
    os.environ["GENAI_COURSE_PROGRESS"] = "0"  # no progress bars in the pages
    app.add_config_value("course_fingerprint", "", "env", str)
    app.connect("config-inited", use_fresh_cache)
    app.connect("build-finished", name_failures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
