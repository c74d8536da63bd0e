"""The student edition: nothing of a solution is left, everything else is, and it runs up to the exercises."""

import importlib.util
import re
from collections import Counter

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from notebook_source import ROOT, read_book

_spec = importlib.util.spec_from_file_location("student", ROOT / "_book" / "student.py")
student = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(student)

GATE = ":::{solution-start} ex-b\n:class: dropdown\n:::"
END = ":::{solution-end}\n:::"
BOOK = read_book()


def synthetic():
    """A notebook with each form of exercise and solution."""
    solution = {"metadata": {"tags": ["solution"]}}
    cells = [
        new_markdown_cell("# Title\n\n```{note}\nNo solution here.\n```"),
        new_code_cell("two = 1 + 1\nassert two == 2"),
        new_markdown_cell("## Exercises\n\n:::{exercise} A ★\n:label: ex-a\nWhy two?\n:::\n\n::::{solution} ex-a\n"
                          ":class: dropdown\nSecret reason.\n\n:::{note}\nDeep secret.\n:::\nOuter secret.\n::::"),
        new_markdown_cell("```{exercise} B ★★\n:label: ex-b\nWrite `three`.\n```"),
        new_markdown_cell(GATE),
        new_code_cell("three = two + 1  # secret code", **solution),
        new_markdown_cell("Secret remark, tag forgotten."),
        new_code_cell("secret_figure = 1  # tag forgotten"),
        new_markdown_cell(END),
        new_code_cell("assert three == 3, 'three must be 3'", metadata={"tags": ["check"]}),
        new_markdown_cell("```{exercise} C ★★★\n:label: ex-c\nProve it.\n```\n\n"
                          "```{solution} ex-c\n:class: dropdown\nSecret proof.\n```\n\n## Further reading"),
        new_code_cell("secret = 'a stray solution cell'", **solution),
        new_markdown_cell(f"Open end.\n\n{GATE}\n\nSecret in one cell.\n\n{END}\n\nAfter."),
    ]  # fmt: skip
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def lines_of(notebook):
    """Every line of every cell that is not blank."""
    return Counter(line for cell in notebook.cells for line in cell.source.splitlines() if line.strip())


def solution_lines(notebook):
    """The lines of all solutions, found line by line (student.py parses MyST), and how many gates there are."""
    found, gates, gated, fence = Counter(), 0, False, None
    for cell in notebook.cells:
        tagged = "solution" in cell.metadata.get("tags", [])
        for line in cell.source.splitlines():
            head = re.match(r"(:{3,}|`{3,})\{solution(-start|-end)?\}", line) if cell.cell_type == "markdown" else None
            if head:
                fence, gates = head[1], gates + (head[2] == "-start")
                gated = head[2] == "-start" or (gated and head[2] is None)
            if line.strip() and (tagged or gated or fence):
                found[line] += 1
            fence = None if not head and line.strip() == fence else fence
    return found, gates


def run(notebook):
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()


def check_edition(notebook):
    """All of the notebook is in its student edition, line for line, but for the solutions."""
    edition = student.student_edition(notebook)
    nbformat.validate(edition)
    solutions, gates = solution_lines(notebook)
    assert solutions
    assert lines_of(edition) == lines_of(notebook) - solutions + Counter({student.YOUR_CODE: gates})
    for cell, after in zip(edition.cells, edition.cells[1:], strict=False):
        assert "check" not in after.metadata.get("tags", []) or cell.source == student.YOUR_CODE
    return edition


def test_a_synthetic_edition_has_no_solution_and_everything_else():
    original = synthetic()
    edition = check_edition(original)
    assert original == synthetic() | {"cells": original.cells}, "the original is not touched"
    text = nbformat.writes(edition)
    assert "ecret" not in text
    assert [cell.source for cell in edition.cells if cell.cell_type == "code"] == [
        "two = 1 + 1\nassert two == 2", student.YOUR_CODE, "assert three == 3, 'three must be 3'", student.YOUR_CODE,
    ]  # fmt: skip
    assert all(
        word in text for word in ("No solution here.", "Why two?", "Write `three`.", "Prove it.", "Open end.", "After.")
    )


def test_a_synthetic_edition_runs_to_the_exercise_and_then_waits_for_the_reader():
    edition = check_edition(synthetic())
    with pytest.raises(CellExecutionError) as caught:
        run(edition)
    assert (caught.value.ename, caught.value.evalue) == ("NameError", "name 'three' is not defined")
    first, yours, check, _ = (cell for cell in edition.cells if cell.cell_type == "code")
    assert [first.execution_count, yours.execution_count, check.execution_count] == [1, 2, 3]
    yours.source = "three = 4"
    with pytest.raises(CellExecutionError) as caught:
        run(edition)
    assert (caught.value.ename, caught.value.evalue) == ("AssertionError", "three must be 3")
    yours.source = "three = 3"
    run(edition)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([GATE], "ex-b is never closed"),
        ([END], "no solution is open"),
        ([GATE, GATE, END], "the solution of ex-b is open"),
        ([":::::{tip}\n" + GATE + "\n:::::"], "inside another directive"),
    ],
)
def test_a_solution_that_cannot_be_taken_out_is_an_error(sources, message):
    with pytest.raises(ValueError, match=message):
        student.student_edition(new_notebook(cells=[new_markdown_cell(source) for source in sources]))


def test_files_are_written_once_and_a_readers_work_is_left_alone(tmp_path):
    source = tmp_path / "chapters" / "1_part" / "1_a.ipynb"
    target = tmp_path / "out" / "1_part" / "1_a.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(synthetic(), source)
    arguments = tmp_path / "chapters", tmp_path / "out"
    assert student.write(*arguments) == student.write(*arguments) == ([target], [])
    assert nbformat.read(target, 4) == student.student_edition(nbformat.read(source, 4))
    target.write_text(target.read_text().replace(student.YOUR_CODE, "three = 3"))
    assert student.write(*arguments) == ([], [target])
    assert "three = 3" in target.read_text()
    nbformat.write(new_notebook(cells=[new_markdown_cell(END)]), source)
    with pytest.raises(ValueError, match=r"1_a\.ipynb: .*no solution is open"):
        student.write(*arguments)


@pytest.mark.skipif(not BOOK.notebooks, reason="there is no chapter yet")
@pytest.mark.parametrize("page", [page for page in BOOK.pages if page.is_lesson], ids=lambda page: page.path)
def test_no_solution_of_a_chapter_is_left(page):
    check_edition(page.nb)


@pytest.mark.slow
@pytest.mark.skipif(not BOOK.notebooks, reason="there is no chapter yet")
def test_the_shortest_chapter_runs_up_to_its_exercises():
    page = min((page for page in BOOK.pages if page.is_lesson), key=lambda page: sum(len(c.source) for c in page.code))
    edition = student.student_edition(page.nb)
    end = next(i for i, cell in enumerate(edition.cells) if "{exercise}" in cell.source)
    edition.cells = edition.cells[:end]
    run(edition)
    assert all(cell.execution_count for cell in edition.cells if cell.cell_type == "code")
