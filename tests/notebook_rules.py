"""What every notebook of the course must keep.

Check one: `.venv/bin/python tests/notebook_rules.py chapters/3_vae_algorithm/1_….ipynb`; without a path, check all.
Every rule is a function that returns its violations: sentences that name notebook and cell and say what to do.

Of every notebook
  valid             nbformat 4.5, kernelspec `python3`
  title             the first cell is markdown and opens with the notebook's only H1
  python            every code cell parses
  magics            no `!command` and no `%magic`: a notebook is plain Python
  imports           the first code cell holds all imports and nothing else but bare set-up calls such as
                    `plot.use_style()`; only genai_course may be imported later
  stars             no `from … import *`
  root_key          one literal key, `key = jax.random.key(0)`; besides it only `jax.random.key(variable)`, and only
                    inside a function or a loop
  randomness        no `jax.random.PRNGKey`, no `numpy.random`, no `random`
  network           nothing is fetched, nothing run outside Python
  warnings          no warning is silenced
  same_for_all      nobody asks whether CI is running
  tags              only the tags in TAGS
  length            at most 25 lines of code a cell, blank ones not counted
  stripped          no output except in kept cells, no leftover metadata of a run
  kept_output       `keep_output` and `nbval-check-output` come together, with text output and an execution count
  figure_alt        a cell that draws has `mystnb.image.alt`: at least 40 characters, no file name; likewise a picture
                    in the text
  figure_caption    ... and `mystnb.figure.caption` (ends with a period, is not the alt text) and `mystnb.figure.name`
  figure_folded     ... and the tag `hide-input` if it has more than three lines
  solutions         each `{solution}` and `{solution-start}` has `:class: dropdown` and an exercise in its notebook; a
                    gate stands alone in its cell; all between start and end is tagged `solution`, and nothing else is
  citations         every cited key stands in references.bib
Of every lesson (all notebooks outside chapters/8_reference)
  opening           the first two cells hold a paragraph or list item for each phrase in OPENING; run time in seconds
  headings          the H2 headings of HEADINGS, once each, in this order
  three_lines       one cell tagged `three-lines` names Floor, Baseline and Published
  claims            at least three asserts in visible cells, at least one under "What we measured", none of a constant
  exercises         at least three `{exercise}` under "Exercises", each with `:label:`, ★ in the title, one solution
  checks            at least one cell tagged `check`, right after a `{solution-end}`: asserts, each with a message
Of the book
  labels            figure, exercise, equation and target labels are unique
  toc               every notebook stands in _toc.yml once, every entry exists
  order             _toc.yml has the order of the numbers in the file names
"""

import sys
from pathlib import Path

import notebook_code_rules  # noqa: F401  (registers its rules)
import notebook_text_rules  # noqa: F401
from notebook_source import ROOT, RULES, read_book


def violations(book):
    """What is wrong with the book: the violations of each rule that is broken."""
    return {name: found for name, rule in RULES.items() if (found := list(rule(book)))}


def main(paths):
    """Print what is wrong with the notebooks at `paths` (with all, if none is given); return the exit status."""
    wanted = [str(Path(path).resolve().relative_to(ROOT)) for path in paths]
    book = read_book()
    if unknown := set(wanted) - set(book.notebooks):
        sys.exit(f"no notebook under chapters/: {', '.join(sorted(unknown))}")
    lines = [
        f"{name}: {line}"
        for name, found in violations(book).items()
        for line in found
        if not wanted or line.startswith(tuple(wanted))
    ]
    print("\n".join(lines) or f"all {len(RULES)} rules are kept (notebooks read: {len(wanted or book.notebooks)})")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
