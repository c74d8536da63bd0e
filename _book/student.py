"""Write the student edition: every notebook of chapters/ without its solutions.

    python _book/student.py [folder]        # default: student/

Removed are the cells tagged `solution`, everything from `{solution-start}` to `{solution-end}`, and each `{solution}`.
Exercises and check cells stay; an empty code cell takes the place of each solution in code. A file in the folder that
differs from what would be written is somebody's work: it is left alone and named, and the exit status is 1.
"""

import argparse
import copy
import re
import sys
from pathlib import Path

import nbformat
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
YOUR_CODE = "# your code here"
MYST = create_md_parser(MdParserConfig(enable_extensions={"colon_fence", "dollarmath"}), RendererHTML)


def _directives(text):
    """(first line, line after the last, name, argument) of each solution directive at the top level of a MyST text."""
    for token in MYST.parse(text):
        head = re.match(r"\{(solution(?:-start|-end)?)\}\s*(.*)", token.info) if token.type.endswith("fence") else None
        if head:
            yield (*token.map, head[1], head[2].strip())


def _split(text, gate):
    """The text without solutions, and the label of the gate that is open behind it (None: no gate is open)."""
    lines, kept, at = text.splitlines(), [], 0
    for start, end, name, argument in _directives(text):
        if not gate:
            kept += lines[at:start]
        if (name == "solution-end") != bool(gate):
            raise ValueError(
                f"{{{name}}} {argument} stands where {f'the solution of {gate}' if gate else 'no solution'} is open"
            )
        gate = argument if name == "solution-start" else None
        at = end
    if not gate:
        kept += lines[at:]
    return "\n".join(kept).strip(), gate


def student_edition(notebook):
    """The notebook without its solutions; ValueError if a solution is opened and not closed, or the reverse."""
    notebook = copy.deepcopy(notebook)
    cells, gate = [], None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            opens = any(name == "solution-start" for _, _, name, _ in _directives(cell.source))
            cell.source, gate = _split(cell.source, gate)
            cells += [cell] if cell.source else []
            if opens:
                cells.append(new_code_cell(YOUR_CODE, id=f"your-code-{len(cells)}"))
        elif not gate:
            cells.append(cell)
    if gate:
        raise ValueError(f"the solution of {gate} is never closed")
    notebook.cells = cells
    tagged = TagRemovePreprocessor(remove_cell_tags={"solution"}, enabled=True)
    notebook = tagged.preprocess(notebook, {})[0]
    if any(re.search(r"^\W*\{solution", cell.source, re.M) for cell in notebook.cells if cell.cell_type == "markdown"):
        raise ValueError("a solution inside another directive cannot be taken out: close that directive first")
    return notebook


def write(chapters, folder):
    """Write the student edition of every notebook under `chapters`; return the paths written and those left alone."""
    written, left = [], []
    for path in sorted(chapters.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        try:
            text = nbformat.writes(student_edition(nbformat.read(path, nbformat.NO_CONVERT))) + "\n"
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        target = folder / path.relative_to(chapters)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.read_text(encoding="utf-8") != text:
            left.append(target)
        else:
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return written, left


def main():
    """Read the command line, write, report; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the student edition: the notebooks without their solutions.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "student", help="where to (default: student/)")
    folder = parser.parse_args().folder
    written, left = write(ROOT / "chapters", folder)
    print(f"notebooks written to {folder}: {len(written)}")
    for path in left:
        print(f"left alone, because it differs from the new edition: {path}", file=sys.stderr)
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
