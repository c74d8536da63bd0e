"""Every notebook of the course keeps every rule of notebook_rules.py; test_notebook_rules.py tests the rules."""

import pytest
from notebook_rules import RULES
from notebook_source import ROOT, read_book


@pytest.fixture(scope="module")
def book():
    return read_book()


def test_the_notebooks_are_found(book):
    """Rules that read nothing would pass, so what _toc.yml promises must be there and be read."""
    files = [path for path in (ROOT / "chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    if not files and not book.toc:
        pytest.skip("there is no chapter yet: the rules below had nothing to read")
    listed = [entry for entry in book.toc if entry.startswith("chapters/") and f"{entry}.md" not in book.texts]
    assert len(book.notebooks) == len(files) == len(listed) > 0
    assert book.cite_keys, "references.bib is missing or empty"


@pytest.mark.parametrize("rule", RULES)
def test_every_notebook_keeps(rule, book):
    violations = list(RULES[rule](book))
    assert not violations, "\n".join([f"{len(violations)} violations", *violations])
