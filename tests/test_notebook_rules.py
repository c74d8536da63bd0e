"""The notebook rules: a good notebook keeps all of them; each way to break one is seen by that rule and no other."""

import copy
from dataclasses import replace

import notebook_rules
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import RULES, violations
from notebook_source import Book

PATH, OTHER = "chapters/1_part/2_good.ipynb", "chapters/1_part/1_other.ipynb"
ALT = "Four dots on a straight line that falls from one to one eighth."
PICTURE = {"image": {"alt": ALT}, "figure": {"caption": "The error halves {cite:p}`a2020`.", "name": "fig-good"}}
EXERCISE = ":::{exercise} Think ★\n:label: ex-good-%s\nWhy?\n:::"
SOLUTION = ":::{solution} ex-good-%s\n:class: dropdown\nBecause.\n:::"
KEPT = {"metadata": {"tags": ["keep_output", "nbval-check-output"]}, "execution_count": 3}
PRINTED = new_output("stream", name="stdout", text="1\n")


def good_notebook():
    """The smallest notebook that keeps every rule."""
    cells = [
        new_markdown_cell("# A good notebook\n\n**Question.** Why?\n\n**Prerequisites.** None."),
        new_markdown_cell("- **You will be able to.** Tell why.\n- **Run time.** 4 s on two cores."),
        new_code_cell("import jax\nimport os\nimport warnings\nimport matplotlib.pyplot as plt\nplt.close()"),
        new_code_cell("key = jax.random.key(0)\nrandom = [0]\nrandom.sort()"),
        new_markdown_cell(
            "$$\na = b\n$$ (eq-good)\n\n```python\n# a comment, no heading\n```\n\n![" + ALT + "](a.png)"
        ),
        new_code_cell("for seed in range(2):\n    draw = jax.random.normal(jax.random.key(seed))\n    assert draw < 9"),
        new_code_cell("fig, ax = plt.subplots()\nax.plot([1])\nplt.show()", metadata={"mystnb": PICTURE}),
        new_code_cell("print(1)", **KEPT, outputs=[PRINTED]),
        new_markdown_cell("| **Floor** | **Baseline** | **Published** |", metadata={"tags": ["three-lines"]}),
        new_markdown_cell("## What we measured"),
        new_code_cell("assert draw > -9\nassert key.shape == ()"),
        new_markdown_cell("## Summary\n\nSee {cite:t}`a2020,b2021`."),
        new_markdown_cell("## Exercises"),
        new_markdown_cell(EXERCISE % "one" + "\n\n" + SOLUTION % "one"),
        new_markdown_cell((EXERCISE % "two").replace(":::", "```")),
        new_markdown_cell(":::{solution-start} ex-good-two\n:class: dropdown\n:::"),
        new_code_cell("answer = 42", metadata={"tags": ["solution"]}),
        new_markdown_cell("Because 42.", metadata={"tags": ["solution"]}),
        new_markdown_cell(":::{solution-end}\n:::"),
        new_code_cell("assert answer == 42, 'the answer is wrong'", metadata={"tags": ["check"]}),
        new_markdown_cell(EXERCISE % "three" + "\n\n" + SOLUTION % "three"),
        new_markdown_cell("## Further reading"),
        new_code_cell("from genai_course import data"),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def book_of(notebook):
    """A book of this notebook and a page."""
    toc = ["intro", "chapters/1_part/index", "chapters/1_part/2_good"]
    texts = {"intro.md": "# Intro\n\n(start)=\n", "chapters/1_part/index.md": "# Part", "README.md": "(eq-good)="}
    return Book({PATH: notebook}, texts, toc, frozenset({"a2020", "b2021"}))


def find(notebook, text):
    """The one cell whose source holds `text`."""
    (cell,) = (cell for cell in notebook.cells if text in cell.source)
    return cell


def swap(old, new):
    """A change that replaces a text which stands in one cell."""

    def change(notebook):
        cell = find(notebook, old)
        cell.source = cell.source.replace(old, new)

    return change


def add(source, *tags, mystnb=None, **fields):
    """A change that inserts a code cell before `## What we measured`."""

    def change(notebook):
        place = notebook.cells.index(find(notebook, "## What we measured"))
        notebook.cells.insert(
            place, new_code_cell(source, metadata={"tags": list(tags), "mystnb": mystnb or {}}, **fields)
        )

    return change


def meta(text, **entries):
    """A change that updates the metadata of the cell with this text."""
    return lambda notebook: find(notebook, text).metadata.update(copy.deepcopy(entries))


def picture(part, **entries):
    """A change that updates the picture's mystnb metadata."""
    return lambda notebook: find(notebook, "plt.subplots").metadata["mystnb"][part].update(entries)


def remove(text):
    """A change that removes the cell with this text."""
    return lambda notebook: notebook.cells.remove(find(notebook, text))


def both(*changes):
    """One change after the other."""
    return lambda notebook: [change(notebook) for change in changes]


KEY = "key = jax.random.key(0)"
HELPER = "def draw():\n    plt.plot([1])"
# rule → the ways to break it and nothing else
BROKEN = {
    "valid": [
        lambda nb: nb.metadata.kernelspec.update(name="julia"),
        lambda nb: nb.update(nbformat_minor=4) or [cell.pop("id") for cell in nb.cells],
        lambda nb: nb.cells[0].update(surprise=1),
    ],
    "title": [swap("# A good notebook", "A good notebook"), swap("## Summary", "## Summary\n\n# Again\n")],
    "python": [add("if True print(1)")],
    "magics": [add("!pip install x"), add("%pip install x"), add("%%time\n1"), add("get_ipython().system('ls')")],
    "imports": [
        add("import math"),
        add("def f():\n    from math import pi"),
        swap("import os", "x = 1"),
        swap("import jax\nimport os\nimport warnings\nimport matplotlib.pyplot as plt", "print(0)"),
        swap("import os", "import os\nx: int"),
    ],
    "stars": [swap("import os", "from os import *"), add("from genai_course.plot import *")],
    "root_key": [
        swap(KEY, ""),
        swap(KEY, "key = rng = jax.random.key(0)"),
        swap(KEY, "rng = key = jax.random.key(0)"),
        add("other = jax.random.key(1)"),
        add("seed = 1\nother = jax.random.key(seed)"),
        add("for i in range(2):\n    jax.random.key(3)"),
    ],
    "randomness": [
        swap("import os", "import numpy as np\nnp.random.rand()"),
        swap("import os", "from numpy import random as r"),
        swap("import os", "import random as r"),
        add("jax.random.PRNGKey(0)"),
    ],
    "network": [
        swap("import os", "import requests"),
        swap("import os", "from urllib.request import urlopen"),
        swap("import os", "from sklearn.datasets import fetch_openml"),
    ],
    "warnings": [add("warnings.filterwarnings('ignore')"), add("warnings.simplefilter(action='ignore')")],
    "same_for_all": [add("quick = 'CI' in os.environ"), add("quick = os.environ.get('CI')"), add("os.getenv('CI')")],
    "tags": [add("1", "raises-exception"), add("1", "nbval-skip"), add("1", "skip-execution"), add("1", "soluton")],
    "length": [add("\n\n".join(["1"] * 26))],
    "stripped": [add("1", outputs=[PRINTED]), meta("print(1)", execution={"started": "now"})],
    "kept_output": [
        lambda nb: find(nb, "print(1)").update(outputs=[]),
        lambda nb: find(nb, "print(1)").update(execution_count=None),
        lambda nb: find(nb, "print(1)").update(outputs=[new_output("display_data", {"image/png": "iVBO"})]),
        lambda nb: find(nb, "print(1)").update(outputs=[new_output("error", ename="E", evalue="", traceback=[])]),
        meta("print(1)", tags=["keep_output"]),
        meta("print(1)", tags=["nbval-check-output"]),
    ],
    "figure_alt": [
        picture("image", alt="Four dots."),
        picture("image", alt="The picture that lies in figures/average_spread.png, drawn above."),
        lambda nb: find(nb, "plt.subplots").metadata["mystnb"].pop("image"),
        swap(ALT, "dots"),
        swap(f"![{ALT}](a.png)", ":::{figure} a.png\nCaption.\n:::"),
        add(HELPER + "\ndraw()", mystnb={"figure": {"caption": "It is one.", "name": "fig-b"}}),
    ],
    "figure_caption": [
        picture("figure", caption="No period"),
        picture("figure", caption=ALT),
        picture("figure", name=""),
        lambda nb: find(nb, "plt.subplots").metadata["mystnb"].pop("figure"),
    ],
    "figure_folded": [swap("ax.plot([1])", "ax.plot([1])\nax.plot([2])")],
    "solutions": [
        swap(SOLUTION % "one", (SOLUTION % "one").replace(":class: dropdown\n", "")),
        swap(":::{solution-start} ex-good-two\n:class: dropdown", ":::{solution-start} ex-good-two"),
        swap(SOLUTION % "three", SOLUTION % "three" + "\n\n" + SOLUTION % "four"),
        meta("answer = 42", tags=[]),
        meta("Because 42.", tags=[]),
        add("x = 1", "solution"),
        swap(":::{solution-end}", "More.\n\n:::{solution-end}"),
        lambda nb: nb.cells.append(new_markdown_cell(":::{solution-end}\n:::")),
        both(
            swap(EXERCISE % "three", EXERCISE % "three" + "\n\n" + EXERCISE % "four"),
            lambda nb: nb.cells.append(new_markdown_cell(":::{solution-start} ex-good-four\n:class: dropdown\n:::")),
        ),
    ],
    "citations": [swap("b2021", "c2022"), picture("figure", caption="As {cite:p}`c2022` found.")],
    "opening": [
        swap("**Question.** Why?", "Why?"),
        swap("\n\n**Prerequisites.**", "\n**Prerequisites.**"),
        swap("**You will be able to.** Tell why.", "**You will be able to.**"),
        swap("4 s on two cores", "short"),
    ],
    "headings": [swap("## Further reading", "### Further reading"), swap("## Summary", "## Summary\n\n## Summary\n\n")],
    "three_lines": [
        meta("**Floor**", tags=[]),
        swap("Published", "Known"),
        add("'Floor Baseline Published'", "three-lines"),
    ],
    "claims": [
        swap("    assert draw < 9", "    draw < 9"),
        swap("assert draw > -9\nassert key.shape == ()", "1\n2"),
        both(meta("assert draw > -9", tags=["hide-input"]), add("assert draw > -9\nassert key.shape == ()")),
        add("assert True"),
    ],
    "exercises": [
        remove(EXERCISE % "three"),
        swap(EXERCISE % "three" + "\n\n" + SOLUTION % "three", EXERCISE % "three"),
        swap(SOLUTION % "three", SOLUTION % "three" + "\n\n" + SOLUTION % "three"),
        swap(EXERCISE % "one", (EXERCISE % "one").replace(" ★", "")),
        swap(EXERCISE % "three" + "\n\n" + SOLUTION % "three", ":::{exercise} Think ★\nWhy?\n:::"),
        lambda nb: nb.cells.insert(3, nb.cells.pop(nb.cells.index(find(nb, EXERCISE % "three")))),
    ],
    "checks": [
        remove("'the answer is wrong'"),
        swap(", 'the answer is wrong'", ""),
        swap("assert answer == 42, 'the answer is wrong'", "answer == 42"),
        lambda nb: nb.cells.append(nb.cells.pop(nb.cells.index(find(nb, "'the answer is wrong'")))),
    ],
    "labels": [picture("figure", name="eq-good"), swap("(eq-good)", "(start)"), swap("(eq-good)", "(ex-good-one)")],
}
BROKEN_BOOKS = {
    "toc": [
        lambda book: replace(book, toc=book.toc[:-1]),
        lambda book: replace(book, toc=[*book.toc, "chapters/1_part/9_missing"]),
        lambda book: replace(book, toc=[*book.toc, book.toc[-1]]),
        lambda book: replace(book, toc=[]),
    ],
    "order": [lambda book: replace(book, toc=["intro", "chapters/1_part/2_good", "chapters/1_part/index"])],
}


def test_a_good_notebook_keeps_every_rule():
    assert violations(book_of(good_notebook())) == {}


def test_every_rule_is_listed_for_authors_and_broken_below():
    listed = [
        line.split()[0] for line in notebook_rules.__doc__.splitlines() if line.startswith("  ") and line[2] != " "
    ]
    assert listed == sorted(set(listed), key=listed.index)
    assert set(listed) == set(RULES) == set(BROKEN) | set(BROKEN_BOOKS)


@pytest.mark.parametrize(("rule", "n"), [(rule, n) for rule, changes in BROKEN.items() for n in range(len(changes))])
def test_a_broken_notebook_breaks_one_rule(rule, n):
    notebook = good_notebook()
    BROKEN[rule][n](notebook)
    found = violations(book_of(notebook))
    assert list(found) == [rule]
    assert all(line.startswith(PATH) for line in found[rule])


@pytest.mark.parametrize(
    ("rule", "n"), [(rule, n) for rule, changes in BROKEN_BOOKS.items() for n in range(len(changes))]
)
def test_a_broken_table_of_contents_breaks_one_rule(rule, n):
    assert list(violations(BROKEN_BOOKS[rule][n](book_of(good_notebook())))) == [rule]


def test_a_violation_says_where_it_is():
    notebook = good_notebook()
    add("import math")(notebook)
    (line,) = violations(book_of(notebook))["imports"]
    assert line == f"{PATH}, cell 10 (import math): move `import math` to the first code cell"


def test_labels_are_unique_over_two_notebooks_and_numbers_order_as_numbers():
    book = book_of(good_notebook())
    two = replace(book, notebooks={OTHER: good_notebook(), **book.notebooks}, toc=[*book.toc, OTHER[:-6]])
    found = violations(two)
    assert set(found) == {"labels", "order"}
    assert len(found["labels"]) == 2 * len(["eq-good", "fig-good", "ex-good-one", "ex-good-two", "ex-good-three"])
    ten = replace(book, notebooks={}, texts=dict.fromkeys(["chapters/1_a/2_b.md", "chapters/1_a/10_b.md"], ""))
    assert violations(replace(ten, toc=["chapters/1_a/2_b", "chapters/1_a/10_b"])) == {}


def test_reference_pages_need_no_exercises():
    notebook = good_notebook()
    notebook.cells = notebook.cells[:8]
    lesson = violations(book_of(notebook))
    assert set(lesson) == {"headings", "three_lines", "claims", "exercises", "checks"}
    name = "chapters/8_reference/faq"
    assert violations(Book({f"{name}.ipynb": notebook}, {}, [name], frozenset({"a2020"}))) == {}
