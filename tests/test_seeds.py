"""The tool that runs notebooks with other root keys finds a claim that holds for one key only."""

import nbformat
import pytest
import seeds
from nbformat.v4 import new_code_cell, new_notebook

IMPORT, KEY = "import jax", "key = jax.random.key(0)"
LUCKY = "assert jax.random.key_data(key)[-1] == 0, 'holds for key 0 only'"


@pytest.fixture
def written(tmp_path):
    def write(*sources):
        path = tmp_path / "notebook.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
        return path

    return write


def test_a_claim_that_is_luck_is_found_and_named(written):
    path = written(IMPORT, KEY, LUCKY)
    assert seeds.run(path, 0) == ""
    assert seeds.run(path, 1) == "cell 2: AssertionError: holds for key 0 only"


@pytest.mark.parametrize("sources", [(IMPORT,), (IMPORT, KEY, KEY)])
def test_a_notebook_without_its_one_root_key_is_refused(written, sources):
    assert seeds.run(written(*sources), 1) == "it has no root key, or more than one"
