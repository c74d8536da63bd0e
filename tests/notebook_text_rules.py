"""The rules on figures, exercises, text and the book's order: see notebook_rules.py for the list."""

import ast
import re
from collections import Counter

from notebook_source import LATER, MYST, directive, of_book, of_lesson, of_page, tokens

OPENING = ("Question.", "Prerequisites.", "You will be able to.", "Run time.")
HEADINGS = ["What we measured", "Summary", "Exercises", "Further reading"]
NOT_DRAWING = {"close", "show", "style", "rc", "rcParams", "rc_context", "get_cmap", "colormaps", "use_style"}


def drawing_cells(page):
    """Code cells that put a picture on the page: they call pyplot, genai_course.plot, or a function that does so."""
    drawing = set()  # the notebook's own functions that draw

    def draws(name):
        package, _, rest = name.partition("pyplot.") if name.startswith("matplotlib.") else name.partition(".plot.")
        return name in drawing or (package in ("matplotlib.", "genai_course") and rest.split(".")[0] not in NOT_DRAWING)

    for cell in page.code:
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.FunctionDef):
                inside = [page.dotted(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
                drawing |= {node.name} if any(map(draws, inside)) else set()
        if any(draws(name) and not any(issubclass(k, LATER) for k in around) for _, name, around in page.calls(cell)):
            yield cell


def text_problem(alt):
    """What is wrong with an alternative text, or an empty string."""
    if len(alt.strip()) < 40:
        return f"alt text {alt!r} is too short: say in at least 40 characters what is seen"
    return f"alt text {alt!r} names a file" if re.search(r"\.(png|jpe?g|svg|gif|webp)\b", alt) else ""


@of_page
def figure_alt(page, book):
    alts = [(cell, cell.mystnb.get("image", {}).get("alt") or "") for cell in drawing_cells(page)]
    for cell in page.markdown:
        alts += [(cell, token.content) for token in cell.tokens if token.type == "image"]
        alts += [(cell, d.options.get("alt", "")) for d in cell.directives if d.name in ("figure", "image")]
    yield from ((cell, problem) for cell, alt in alts if (problem := text_problem(alt)))


@of_page
def figure_caption(page, book):
    for cell in drawing_cells(page):
        figure = cell.mystnb.get("figure", {})
        caption = (figure.get("caption") or "").strip()
        if not caption.endswith("."):
            yield cell, "give mystnb.figure.caption: the takeaway, then how to read it, ending with a period"
        if caption and caption == (cell.mystnb.get("image", {}).get("alt") or "").strip():
            yield cell, "the caption says what to conclude, the alt text what is seen: they cannot be equal"
        if not figure.get("name"):
            yield cell, "give mystnb.figure.name, such as fig-topic"


@of_page
def figure_folded(page, book):
    for cell in drawing_cells(page):
        if sum(bool(line.strip()) for line in cell.source.splitlines()) > 3 and "hide-input" not in cell.tags:
            yield cell, "fold plot code of more than three lines: tag `hide-input`"


def directives(page, *names):
    """(cell, directive) of all directives with one of these names, in order."""
    return [(cell, d) for cell in page.markdown for d in cell.directives if d.name in names]


@of_page
def solutions(page, book):
    labels = {d.options.get("label") for _, d in directives(page, "exercise")}
    for cell, solution in directives(page, "solution", "solution-start"):
        if "dropdown" not in solution.options.get("class", ""):
            yield cell, "fold the solution: `:class: dropdown`"
        if solution.argument not in labels:
            yield cell, f"no exercise of this notebook is labelled `{solution.argument}`"
    inside = None
    for cell in page.cells:
        gates = [d.name for d in cell.directives if d.name in ("solution-start", "solution-end")]
        if gates:
            if gates != ["solution-end" if inside else "solution-start"] or len(MYST.parse(cell.source)) > 1:
                yield cell, "a gate stands alone in its cell, and start and end alternate"
            inside = cell if "solution-start" in gates else None
        elif ("solution" in cell.tags) != bool(inside):
            yield cell, "tag `solution` on every cell between solution-start and solution-end, and on no other"
    if inside:
        yield inside, "this solution is never closed: add a cell with `{solution-end}`"


@of_page
def citations(page, book):
    for cell in page.cells:
        captions = list(tokens(cell.mystnb.get("figure", {}).get("caption") or ""))
        for token in cell.tokens + captions:
            if token.type == "myst_role" and token.meta["name"].startswith("cite"):
                missing = {key.strip() for key in token.content.split(",")} - book.cite_keys
                yield from ((cell, f"add `{key}` to references.bib") for key in sorted(missing))


@of_lesson
def opening(page, book):
    starts = [t.content for cell in page.cells[:2] for t in cell.tokens if t.type == "inline"]
    for phrase in OPENING:
        pattern = rf"\*\*{re.escape(phrase)}\*\*\s+(?=\S)" + (r".*\d\s*(s|seconds)\b" if phrase == "Run time." else "")
        if not any(re.match(pattern, start, re.S) for start in starts):
            value = " and the measured seconds (31 s)" if phrase == "Run time." else ""
            yield None, f"the first two cells need a paragraph that starts with `**{phrase}**`{value}"


@of_lesson
def headings(page, book):
    found = [name for cell in page.cells for level, name in cell.headings if level == 2 and name in HEADINGS]
    if found != HEADINGS:
        yield None, f"the H2 headings {HEADINGS} must stand in this order, once each; found {found}"


@of_lesson
def three_lines(page, book):
    tagged = [cell for cell in page.cells if "three-lines" in cell.tags]
    if len(tagged) != 1:
        yield None, f"tag one cell `three-lines`: the table of floor, baseline and published value; found {len(tagged)}"
    for cell in tagged:
        missing = [word for word in ("Floor", "Baseline", "Published") if word not in cell.source]
        yield from ((cell, f"the table does not name its {word} (write – where there is none)") for word in missing)


@of_lesson
def exercises(page, book):
    found = directives(page, "exercise")
    if len(found) < 3:
        yield None, f"{len(found)} exercises: write at least three"
    section = page.section("Exercises")
    solved = Counter(d.argument for _, d in directives(page, "solution", "solution-start"))
    for cell, exercise in found:
        label = exercise.options.get("label")
        if cell not in section:
            yield cell, "an exercise stands under `## Exercises`"
        if not label:
            yield cell, "give the exercise a `:label: ex-...`"
        elif solved[label] != 1:
            yield cell, f"exercise `{label}` needs one solution, has {solved[label]}"
        if not 1 <= exercise.argument.count("★") <= 3:
            yield cell, "say how hard it is in the title: ★ recall, ★★ change, ★★★ prove"


@of_lesson
def checks(page, book):
    tagged = [cell for cell in page.cells if "check" in cell.tags]
    if not tagged:
        yield None, "at least one exercise needs a cell tagged `check` after its solution"
    for cell in tagged:
        before = page.cells[cell.number - 2] if cell.number > 1 else None
        if before is None or [d.name for d in before.directives] != ["solution-end"]:
            yield cell, "a check cell stands right after the `{solution-end}` of its exercise"
        if not cell.asserts or any(node.msg is None for node in cell.asserts):
            yield cell, "a check cell asserts, and every assert has a message that says which property fails"


@of_book
def labels(book):
    places = {}
    for page in book.pages:
        for cell in page.cells:
            names = defined(cell.tokens) + [name for name in [cell.mystnb.get("figure", {}).get("name")] if name]
            for name in names:
                places.setdefault(name, []).append((page, cell))
    written = {name for path, text in book.texts.items() if path[:-3] in book.toc for name in defined(tokens(text))}
    for name, found in places.items():
        if len(found) > 1 or name in written:
            yield from (page.at(cell, f"label `{name}` is used more than once in the book") for page, cell in found)


def defined(parsed):
    """The labels that MyST tokens define: equations, targets, and directives with a label or a name."""
    names = []
    for token in parsed:
        names += [token.info] if token.type == "math_block_label" else []
        names += [token.content] if token.type == "myst_target" else []
        if inner := directive(token):
            names += [inner.options[key] for key in ("label", "name") if key in inner.options]
    return names


@of_book
def toc(book):
    files = {path.rsplit(".", 1)[0]: path for path in [*book.texts, *book.notebooks]}
    entries = Counter(re.sub(r"\.(ipynb|md)$", "", entry) for entry in book.toc)
    missing = [f"_toc.yml: there is no notebook or page {entry}" for entry in entries if entry not in files]
    lost = [f"{path}: add it to _toc.yml" for path in book.notebooks if path[:-6] not in entries]
    return missing + lost + [f"_toc.yml: {entry} stands there {n} times" for entry, n in entries.items() if n > 1]


@of_book
def order(book):
    def place(entry):
        """Numbers in the path; an index page comes before them, pages without a number after them."""
        parts = [part.split("_")[0] for part in entry.split("/")]
        return [int(part) if part.isdigit() else 0 if part == "index" else 10**9 for part in parts]

    entries = [entry for entry in book.toc if entry.startswith("chapters/")]
    pairs = zip(entries, sorted(entries, key=place), strict=True)
    return [f"_toc.yml: {is_} stands where {should} belongs" for is_, should in pairs if is_ != should][:1]
