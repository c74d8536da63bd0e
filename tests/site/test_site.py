"""The built book in a real browser: every page, both themes, a desktop's width and a phone's; and all its links."""

from pathlib import Path

import pytest
import yaml
from conftest import SITE
from page_checks import link_problems, pages


@pytest.mark.parametrize("page", [str(page.relative_to(SITE)) for page in pages(SITE)])
def test_page(site, checks, page):
    problems = checks.problems(site / page)
    assert not problems, "\n".join([page, *problems])


def test_links(site):
    problems = link_problems(site)
    assert not problems, "\n".join(problems)


def test_every_entry_of_the_table_of_contents_is_a_page(site):
    def files(entry):
        own = [entry["file"]] if "file" in entry else []
        return own + [
            file for key in ("parts", "chapters", "sections") for e in entry.get(key, []) for file in files(e)
        ]

    expected = files(yaml.safe_load((Path(__file__).parents[2] / "_toc.yml").read_text()))
    assert len(expected) > 20
    assert not [file for file in expected if not (site / f"{file}.html").exists()]


def test_search_finds_a_word_without_a_server(site, checks):
    page = checks.browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=reparameterization")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    results = [link.get_attribute("href") for link in page.query_selector_all("#search-results li a")]
    page.close()
    assert any("2_encode_sample_decode_compare" in result for result in results), results
