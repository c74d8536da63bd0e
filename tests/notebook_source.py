"""Read the course as the notebook rules see it: pages of cells, cells as MyST tokens or as Python syntax trees.

At the end stand the decorators with which the two files of rules register them.
"""

import ast
import re
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path

import nbformat
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parents[1]
MYST = create_md_parser(MdParserConfig(enable_extensions={"amsmath", "colon_fence", "dollarmath"}), RendererHTML)
VERBATIM = {"math", "code", "code-block", "code-cell", "bibliography"}  # directives whose body is not MyST text
RULES = {}  # name → function from a Book to a list of violations
LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)  # a body that does not run where it is written
LOOP = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Directive:
    """A MyST directive: `{name} argument`, its `:key: value` options, and its body."""

    name: str
    argument: str
    options: dict
    body: str


def directive(token):
    """The directive that a fence token holds, or None."""
    head = re.match(r"\{([\w:-]+)\}\s*(.*)", token.info) if token.type in ("fence", "colon_fence") else None
    if head is None:
        return None
    lines = token.content.splitlines()
    options = {}
    while lines and (option := re.match(r":([\w-]+):\s*(.*)", lines[0])):
        options[option[1]] = option[2].strip()
        lines.pop(0)
    return Directive(head[1], head[2].strip(), options, "\n".join(lines))


def tokens(text):
    """Every token of a MyST text, those inside directives and inline text included."""
    for token in MYST.parse(text):
        yield token
        yield from token.children or []
        inner = directive(token)
        if inner and inner.name not in VERBATIM:
            yield from tokens(inner.argument)
            yield from tokens(inner.body)


@dataclass(frozen=True)
class Cell:
    """One cell; `number` counts all cells of the notebook from 1."""

    number: int
    kind: str
    source: str
    metadata: dict
    outputs: list
    execution_count: int | None

    @property
    def tags(self):
        return set(self.metadata.get("tags", []))

    @property
    def mystnb(self):
        return self.metadata.get("mystnb", {})

    @cached_property
    def python(self):
        """The source with IPython's magics turned into calls."""
        return TransformerManager().transform_cell(self.source)

    @cached_property
    def tree(self):
        """The syntax tree, empty for a markdown cell and where the source does not parse."""
        try:
            return ast.parse(self.python if self.kind == "code" else "")
        except SyntaxError:
            return ast.parse("")

    @cached_property
    def tokens(self):
        return list(tokens(self.source)) if self.kind == "markdown" else []

    @property
    def directives(self):
        return [found for token in self.tokens if (found := directive(token))]

    @property
    def headings(self):
        """(level, title) of every heading."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        return [(int(a.tag[1]), b.content.strip()) for a, b in pairs if a.type == "heading_open"]

    @property
    def asserts(self):
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Assert)]


class Page:
    """A notebook with its path inside the repository."""

    def __init__(self, path, nb):
        self.path, self.nb = path, nb
        self.cells = [
            Cell(i, c.cell_type, c.source, c.metadata, c.get("outputs", []), c.get("execution_count"))
            for i, c in enumerate(nb.cells, 1)
        ]
        self.code = [cell for cell in self.cells if cell.kind == "code"]
        self.markdown = [cell for cell in self.cells if cell.kind == "markdown"]

    @property
    def is_lesson(self):
        """Reference pages have no exercises and no experiment of their own."""
        return not self.path.startswith("chapters/8_reference/")

    def at(self, cell, message):
        """The violation `message`, with the place where it is."""
        if cell is None:
            return f"{self.path}: {message}"
        first = next(iter(cell.source.strip().splitlines()), "")[:50]
        return f"{self.path}, cell {cell.number} ({first}): {message}"

    def section(self, title):
        """The cells from the one with this H2 to the one before the next H2; empty if there is no such heading."""
        starts = [(cell.number, name) for cell in self.cells for level, name in cell.headings if level == 2]
        begin = next((number for number, name in starts if name == title), None)
        if begin is None:
            return []
        end = next((number for number, _ in starts if number > begin), len(self.cells) + 1)
        return self.cells[begin - 1 : end - 1]

    @cached_property
    def aliases(self):
        """What the imports call things: {"np": "numpy", "plt": "matplotlib.pyplot", ...}."""
        found = {}
        for node in (node for cell in self.code for node in ast.walk(cell.tree)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name.split(".")[0]
                    found |= {alias.asname: alias.name} if alias.asname else {root: root}
            elif isinstance(node, ast.ImportFrom):
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def dotted(self, node):
        """The full name of `a.b.c`, through the imports: `np.random.rand` is numpy.random.rand."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (head := self.dotted(node.value)):
            return f"{head}.{node.attr}"
        return ""

    def names(self, cell):
        """Every dotted name that a cell imports, or uses and has imported: a variable called `random` is no module."""
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif name := self.dotted(node):
                root = next(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
                if root in self.aliases:
                    yield name

    def calls(self, cell):
        """(call node, full name, kinds of the nodes around it) for every call in a cell."""

        def visit(node, around):
            if isinstance(node, ast.Call):
                yield node, self.dotted(node.func), around
            for child in ast.iter_child_nodes(node):
                yield from visit(child, (*around, type(node)))

        return list(visit(cell.tree, ()))


@dataclass(frozen=True)
class Book:
    """The course: notebooks by path, other pages' text by path, the table of contents, the bibliography's keys."""

    notebooks: dict
    texts: dict
    toc: list
    cite_keys: frozenset

    @cached_property
    def pages(self):
        return [Page(path, nb) for path, nb in self.notebooks.items()]


def _entries(node):
    """The files of a jb-book table of contents, in reading order."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("root", "file") if key in node)
        for value in node.values():
            yield from _entries(value)
    elif isinstance(node, list):
        for value in node:
            yield from _entries(value)


def read_book(root=ROOT):
    """Read the course under `root`; what does not exist yet is empty."""
    found = [path for path in root.glob("chapters/**/*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    texts = [*root.glob("*.md"), *root.glob("chapters/**/*.md")]
    toc, bib = root / "_toc.yml", root / "references.bib"
    return Book(
        notebooks={str(path.relative_to(root)): nbformat.read(path, nbformat.NO_CONVERT) for path in sorted(found)},
        texts={str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in sorted(texts)},
        toc=list(_entries(yaml.safe_load(toc.read_text(encoding="utf-8")))) if toc.exists() else [],
        cite_keys=frozenset(re.findall(r"^@\w+\{([^,\s]+),", bib.read_text(encoding="utf-8"), re.M))
        if bib.exists()
        else frozenset(),
    )


def of_book(fn):
    """Register a rule on the whole book."""
    RULES[fn.__name__] = fn
    return fn


def of_page(fn, lessons_only=False):
    """Register a rule on one notebook, which yields (cell or None, what to do)."""

    @wraps(fn)
    def over_book(book):
        pages = [page for page in book.pages if page.is_lesson or not lessons_only]
        return [page.at(cell, message) for page in pages for cell, message in fn(page, book)]

    return of_book(over_book)


def of_lesson(fn):
    """Register a rule on one notebook that is a lesson."""
    return of_page(fn, lessons_only=True)
