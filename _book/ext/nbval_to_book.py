"""pytest plugin: what nbval has run, the book need not run again.

    python -m pytest -p _book.ext.nbval_to_book --nbval-lax chapters

A notebook of which every cell has passed goes, with its outputs, into the execution cache of the book.
"""

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbval.plugin import IPyNbCell

from _book.ext.execution import fresh_cache

SECONDS = pytest.StashKey[dict]()  # of the cells of a notebook that have passed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note the outputs of a cell that has passed; after the last one of its notebook, fill the cache."""
    report = yield
    if isinstance(item, IPyNbCell) and report.when == "call" and report.passed:
        notebook = item.parent.nb
        item.cell.execution_count = item.cell_num + 1
        item.cell.outputs = [nbformat.from_dict(output) for output in item.test_outputs]
        seconds = item.parent.stash.setdefault(SECONDS, {})
        seconds[item.cell_num] = report.duration
        if len(seconds) == sum(cell.cell_type == "code" for cell in notebook.cells):
            kernel = item.parent.kernel.kc.kernel_info(reply=True, timeout=60)["content"]
            notebook.metadata["language_info"] = kernel["language_info"]
            run = CacheBundleIn(notebook, str(item.path), data={"execution_seconds": sum(seconds.values())})
            cache = get_cache(str(fresh_cache(item.config.rootpath)))
            cache.cache_notebook_bundle(run, check_validity=False, overwrite=True)
    return report
