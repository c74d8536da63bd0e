"""Run notebooks with other root keys: a claim that holds for one seed only is luck.

    python tests/seeds.py [notebook ...] [--keys 1 2 3 4]     # default: every notebook, keys 1 to 4

Each notebook runs as it is, but with ``key = jax.random.key(k)`` in place of its own root key. The first failed
assert is printed with notebook, key and cell; the exit status is the number of runs that failed.
"""

import argparse
import os
import re
import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook_source import ROOT

ROOT_KEY = re.compile(r"^key = jax\.random\.key\(\d+\)", re.M)


def with_key(notebook, k: int) -> int:
    """Give the notebook the root key ``k``; return how many root keys it had, which should be one."""
    found = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, here = ROOT_KEY.subn(f"key = jax.random.key({k})", cell.source)
            found += here
    return found


def run(path, k: int) -> str:
    """Run one notebook with the root key ``k``; return what failed, or an empty string."""
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    if with_key(notebook, k) != 1:
        return "it has no root key, or more than one"
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}})
    try:
        client.execute()
    except CellExecutionError as error:
        cell = next(
            i for i, c in enumerate(notebook.cells) if any(o.output_type == "error" for o in c.get("outputs", []))
        )
        return f"cell {cell}: {error.ename}: {error.evalue}"
    return ""


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description="Run notebooks with other root keys.")
    parser.add_argument("notebooks", nargs="*", help="default: all under chapters/")
    parser.add_argument("--keys", nargs="+", type=int, default=[1, 2, 3, 4])
    options = parser.parse_args()
    os.environ["GENAI_COURSE_PROGRESS"] = "0"
    paths = [ROOT / path for path in options.notebooks] or sorted(ROOT.glob("chapters/*/[0-9]*.ipynb"))
    failed = 0
    for path in paths:
        for k in options.keys:
            start = time.perf_counter()
            problem = run(path, k)
            failed += bool(problem)
            print(
                f"{path.relative_to(ROOT)} key {k} {time.perf_counter() - start:.0f} s: {problem or 'ok'}", flush=True
            )
    return failed


if __name__ == "__main__":
    sys.exit(main())
