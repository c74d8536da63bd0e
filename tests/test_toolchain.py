"""The two commands keep their promises, shown on a small book in a temporary folder: what runs, when, what fails."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

TOC = """\
format: jb-book
root: intro
parts:
  - caption: Course
    numbered: 2
    chapters:
      - file: chapters/4_demo/index
        sections:
          - file: chapters/4_demo/one
          - file: chapters/4_demo/two
          - file: chapters/4_demo/lists
"""
RUN = """\
import os
from pathlib import Path

assert os.environ["GENAI_COURSE_PROGRESS"] == "0"  # no progress bars, in the book and in the tests
with Path("../../runs.txt").open("a") as file:
    print("{name}", file=file)
"""
FIGURE = "import matplotlib.pyplot as plt\n\nplt.plot([0, 1])\nplt.show()"
FIGURE_METADATA = {"mystnb": {"image": {"alt": "A line"}, "figure": {"caption": "A line.", "name": "fig-line"}}}
UNIT_TESTS = """\
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

import genai_course.typed


def test_reused_key_raises():
    key = jax.random.key(0)
    jax.random.normal(key)
    with pytest.raises(jax.errors.KeyReuseError):
        jax.random.normal(key)


def test_wrong_shape_raises():
    with pytest.raises(jaxtyping.TypeCheckError):
        genai_course.typed.total(jnp.zeros((2, 2)))
"""
TYPED = """\
from jaxtyping import Array, Float


def total(x: Float[Array, "n"]) -> Float[Array, ""]:
    return x.sum()
"""


class Book:
    """A book of two notebooks with the project's own Makefile, settings, extensions and package."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("Makefile", "_config.yml", "pyproject.toml", "requirements.lock", "references.bib"):
            shutil.copy(ROOT / name, root)
        for name in ("_book", "genai_course"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.write("_toc.yml", TOC)
        self.write("intro.md", "# A small book\n")
        self.write("chapters/4_demo/index.md", "# Demo\n")
        self.write("chapters/4_demo/lists.md", "# Lists\n\n```{course-index} figures\n```\n")
        for stray in ("README.md", ".cache/notes.md", "student/chapters/4_demo/index.md"):
            self.write(stray, "# No page of the book\n")
        self.write("genai_course/extra.py", "VALUE = 'walrus'\n")
        self.write("genai_course/typed.py", TYPED)
        self.write("tests/test_small.py", UNIT_TESTS)
        self.notebook("one", FIGURE, metadata=FIGURE_METADATA)
        self.notebook("two", "from genai_course import extra\n\nextra.VALUE")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def notebook(self, name: str, source: str, metadata=None) -> None:
        """Write a notebook whose cell 0 records that it was run and whose cell 1 is ``source``."""
        cells = [
            new_markdown_cell(f"# Notebook {name}\n\nA formula, $x^2$."),
            new_code_cell(RUN.format(name=name)),
            new_code_cell(source, metadata=metadata or {}),
        ]
        nbformat.write(new_notebook(cells=cells), self.root / f"chapters/4_demo/{name}.ipynb")

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess:
        """Run a target of the Makefile in the environment that runs this test."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "BOOK_"))}
        env |= {"PYTHONPATH": str(self.root), "MPLBACKEND": "Agg"} | variables
        # An existing file for STAMP says that the environment needs no making.
        command = ["make", target, f"VENV={sys.prefix}", "STAMP=Makefile"]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=600)

    def runs(self) -> list[str]:
        """Return the names of the notebooks run since the last call."""
        log = self.root / "runs.txt"
        names = sorted(log.read_text().split()) if log.exists() else []
        log.unlink(missing_ok=True)
        return names

    def page(self, name: str) -> str:
        return (self.root / "_build/html" / f"{name}.html").read_text()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Build the small book once; the tests below change it, in order."""
    small = Book(tmp_path_factory.mktemp("book"))
    built = small.make("book")
    assert built.returncode == 0, built.stdout + built.stderr
    assert small.runs() == ["one", "two"]
    return small


@needs_make
@pytest.mark.slow
class TestBook:
    def test_pages_hold_results_numbers_and_figures(self, book):
        one, two = book.page("chapters/4_demo/one"), book.page("chapters/4_demo/two")
        assert "walrus" in two
        assert '<span class="section-number">4.2 </span>Notebook two' in two  # the folder's number, not a running one
        assert '<span class="caption-number">Figure 4.1.1 </span>' in one
        assert '<img alt="A line" src="../../_images/' in one

    def test_site_loads_nothing_from_elsewhere(self, book):
        html = book.root / "_build/html"
        for page in html.rglob("*.html"):
            text = page.read_text()
            loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]+)"', text)
            assert [address for address in loaded if "//" in address] == []
            assert "thebe" not in text.lower()
            assert "example.org" not in text
        assert "_static/mathjax/tex-chtml.js" in book.page("chapters/4_demo/one")
        assert (html / "_static/mathjax/tex-chtml.js").stat().st_size > 1e6
        assert not (html / "sitemap.xml").exists()

    def test_lists_lead_to_what_they_list(self, book):
        assert 'href="one.html#fig-line">Figure 4.1.1. A line.</a>' in book.page("chapters/4_demo/lists")

    def test_second_build_does_nothing(self, book):
        again = book.make("book")
        assert again.returncode == 0
        assert "0 added, 0 changed, 0 removed" in again.stdout
        assert book.runs() == []

    def test_edited_notebook_runs_alone(self, book):
        book.notebook("one", FIGURE.replace("[0, 1]", "[1, 0]"), metadata=FIGURE_METADATA)
        assert book.make("book").returncode == 0
        assert book.runs() == ["one"]

    def test_edited_package_runs_every_notebook(self, book):
        book.write("genai_course/extra.py", "VALUE = 'ostrich'\n")
        assert book.make("book").returncode == 0
        assert book.runs() == ["one", "two"]
        assert "ostrich" in book.page("chapters/4_demo/two")

    def test_notebooks_that_the_tests_have_run_are_not_run_again(self, book):
        book.write("genai_course/extra.py", "VALUE = 'heron'\n")
        assert book.make("test").returncode == 0
        assert book.runs() == ["one", "two"]
        assert book.make("book").returncode == 0
        assert book.runs() == []
        assert "heron" in book.page("chapters/4_demo/two")
        assert '<img alt="A line" src="../../_images/' in book.page("chapters/4_demo/one")

    def test_address_comes_from_the_environment(self, book):
        assert book.make("book", BOOK_URL="https://book.test/course").returncode == 0
        assert (
            "https://book.test/course/chapters/4_demo/one.html" in (book.root / "_build/html/sitemap.xml").read_text()
        )
        assert book.runs() == []

    def test_what_is_wrong_fails_the_book_until_it_is_repaired(self, book):
        book.notebook("two", "ratio = 1\nratio / 0")
        book.write("intro.md", "# A small book\n\nSee {ref}`nowhere`.\n")
        for _ in range(2):  # the second build must not trust what the first has read
            failed = book.make("book")
            assert failed.returncode != 0
            assert "chapters/4_demo/two.ipynb::Cell 1 (ratio = 1): ZeroDivisionError" in failed.stderr
            assert "intro.md:3: WARNING: undefined label: 'nowhere'" in failed.stderr
        assert (book.root / "_build/html/reports/chapters/4_demo/two.err.log").exists()

    def test_failing_notebook_fails_the_tests(self, book):
        failed = book.make("test")
        assert "2 passed" in failed.stdout, failed.stdout  # the unit tests: keys and shapes were checked
        assert failed.returncode != 0
        assert re.findall(r"^FAILED (\S+::Cell \d+)", failed.stdout, re.M) == ["chapters/4_demo/two.ipynb::Cell 1"]
        assert "ZeroDivisionError" in failed.stdout


@pytest.fixture
def fingerprint(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "_book/ext")
    import execution

    return execution.fingerprint


def test_fingerprint_is_of_package_and_lock(tmp_path, fingerprint):
    (tmp_path / "genai_course/live").mkdir(parents=True)
    files = [tmp_path / name for name in ("requirements.lock", "genai_course/train.py", "genai_course/live/runtime.js")]
    seen = set()
    for file in files:
        file.write_text("before")
    for file in files:
        seen.add(fingerprint(tmp_path))
        file.write_text("after")
    (tmp_path / "intro.md").write_text("no code")
    seen.add(fingerprint(tmp_path))
    files[-1].rename(files[-1].with_name("renamed.js"))
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 5
    (tmp_path / "intro.md").write_text("no code, edited")
    assert fingerprint(tmp_path) in seen


@needs_make
def test_environment_is_made_anew_when_the_lock_changes(tmp_path):
    def plan() -> str:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        command = ["make", "--dry-run", "env", "VENV=venv"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout

    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "venv").mkdir()
    first = plan()
    assert "-m venv --clear venv" in first
    assert "--require-hashes -r requirements.lock" in first
    (tmp_path / re.search(r"touch (venv/\S+)", first)[1]).touch()
    assert "venv --clear" not in plan()
    with (tmp_path / "requirements.lock").open("a") as lock:
        lock.write("# another lock\n")
    assert "-m venv --clear venv" in plan()


@needs_make
def test_unsupported_python_is_refused(tmp_path):
    old = tmp_path / "old"  # this interpreter, claiming to be 3.10
    code = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$2\"\n")
    old.chmod(0o755)
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "env", "VENV=venv", f"PYTHON={old}"]
    refused = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "is Python 3.10, and the course runs on 3.11, 3.12 or 3.13" in refused.stderr
    assert not (tmp_path / "venv").exists()


LOCK = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()


def test_lock_has_hashes_and_no_address():
    assert len(LOCK) > 100
    for line in LOCK:
        assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
        assert "://" not in line


def test_lock_fits_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + [
        entry for group in project["dependency-groups"].values() for entry in group if isinstance(entry, str)
    ]
    locked = dict(re.match(r"(\S+)==(\S+)", line).groups() for line in LOCK)
    for requirement in map(Requirement, wanted):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: run make lock"


def test_settings_stay_short():
    assert len((ROOT / "_config.yml").read_text().splitlines()) < 70
