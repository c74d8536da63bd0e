"""Sphinx extension: lists of everything of one kind in the book, each entry a link to its place.

    ```{course-index} theorems
    ```

The kinds are ``theorems`` (with definitions, lemmas and algorithms), ``figures``, ``exercises`` and ``often-said``, the
boxes "Often said · Actually".
"""

import re

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_subtitle

KINDS = ("theorems", "figures", "exercises", "often-said")
BOX = "Often said · Actually"


class course_index(nodes.General, nodes.Element):
    """Where a list will stand once all pages are read."""


class CourseIndex(SphinxDirective):
    """The directive ``course-index``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Leave a mark, and note that this page must be written again whenever any other one changes."""
        kind = self.arguments[0]
        if kind not in KINDS:
            raise self.error(f"course-index must be one of {', '.join(KINDS)}, got {kind!r}")
        self.env.course_index_pages.add(self.env.docname)
        return [course_index(kind=kind)]


def words(parts) -> list[nodes.Node]:
    """The words and formulas of inline nodes, made anew for another page; links and citations become their text."""
    return [
        nodes.math(part.astext(), part.astext()) if isinstance(part, nodes.math) else nodes.Text(part.astext())
        for part in parts
    ]


def first_sentence(parts) -> list[nodes.Node]:
    """Inline nodes up to the first full stop."""
    kept = []
    for part in words(parts):
        if isinstance(part, nodes.Text) and (end := re.search(r"[.?!](?=\s|$)", part)):
            return [*kept, nodes.Text(part[: end.end()])]
        kept.append(part)
    return kept


def entries(doctree) -> list[tuple[str, str, str, list[nodes.Node]]]:
    """``(kind, id, numbering, title)`` of each theorem, figure, exercise and box of a page."""

    def inside(node, kind):
        found = node.next_node(kind)
        return found.children if found else []

    found = []
    for node in doctree.findall(lambda n: isinstance(n, nodes.Element) and "countertype" in n):
        title = words(inside(node, nodes.title))  # which stands in brackets
        if title:
            title[0] = nodes.Text(title[0].lstrip(" ("))
            title[-1] = nodes.Text(title[-1].removesuffix(")"))
        found.append(("theorems", node["ids"][0], node["countertype"], title))
    for node in doctree.findall(nodes.figure):
        if node["ids"]:
            found.append(("figures", node["ids"][0], "figure", first_sentence(inside(node, nodes.caption))))
    for node in doctree.findall(exercise_enumerable_node):
        found.append(("exercises", node["ids"][0], "exercise", words(inside(node, exercise_subtitle))))
    boxes = (n for n in doctree.findall(nodes.admonition) if n.children and n[0].astext() == BOX)
    for i, node in enumerate(boxes, 1):
        node["ids"].append(f"often-said-{i}")
        said = [part for part in inside(node, nodes.paragraph) if part.astext() not in {"", "Often said."}]
        found.append(("often-said", node["ids"][-1], "", words(said)))
    return found


def read(app, doctree) -> None:
    """Note what a page holds."""
    app.env.course_index[app.env.docname] = entries(doctree)


def place(docname: str) -> list:
    """For sorting: chapters and notebooks by their numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", docname)]


def number(env, docname: str, numbering: str, anchor: str) -> str:
    """Such as "Theorem 4.1.2", or nothing for what is not numbered."""
    ids = env.toc_fignumbers.get(docname, {}).get(numbering, {})
    return f"{numbering.capitalize()} {'.'.join(map(str, ids[anchor]))}" if anchor in ids else ""


def resolve(app, doctree, docname) -> None:
    """Put the lists in place."""
    for mark in list(doctree.findall(course_index)):
        app.env.domaindata["math"]["has_equations"][docname] = True  # so that the page loads MathJax
        pages = []
        for page in sorted(app.env.course_index, key=place):
            address, items = app.builder.get_relative_uri(docname, page), []
            for kind, anchor, numbering, title in app.env.course_index[page]:
                if kind == mark["kind"]:
                    label = number(app.env, page, numbering, anchor)
                    link = nodes.reference("", "", internal=True, refuri=f"{address}#{anchor}")
                    link += [nodes.Text(f"{label}. ")] if label else []
                    link += words(title) or [nodes.Text("untitled")]
                    items.append(nodes.list_item("", nodes.paragraph("", "", link)))
            if items:
                head = nodes.reference("", app.env.titles[page].astext(), internal=True, refuri=address)
                pages += [nodes.paragraph("", "", nodes.strong("", "", head)), nodes.bullet_list("", *items)]
        mark.replace_self(pages)


def start(app) -> None:
    """Make room in the environment, which is kept from build to build."""
    for name, empty in {"course_index": {}, "course_index_pages": set()}.items():
        if not hasattr(app.env, name):
            setattr(app.env, name, empty)


def purge(app, env, docname) -> None:
    """Forget a page that is gone or will be read again."""
    env.course_index.pop(docname, None)
    env.course_index_pages.discard(docname)


def setup(app):
    """Register the extension with Sphinx."""
    app.add_node(course_index)
    app.add_directive("course-index", CourseIndex)
    app.connect("builder-inited", start)
    app.connect("env-purge-doc", purge)
    app.connect("doctree-read", read)
    app.connect("env-updated", lambda app, env: list(env.course_index_pages))
    app.connect("doctree-resolved", resolve)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
