"""The built book in a real browser: every page, both themes, a desktop's width and a phone's; and all its links."""

import json
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
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


# Pages with a live figure, and what a reader may do there: an element, and a key pressed on it or a click.
LIVE = {
    "intro": ("text=One step", None),
    "chapters/3_vae_algorithm/3_travelling_in_latent_space": ("canvas[tabindex]", "ArrowRight"),
    "chapters/5_code/3_text_with_a_transformer": ("text=Go on", None),
    "chapters/5_code/5_gan": ("input[type=range]", "ArrowRight"),
    "chapters/5_code/6_diffusion": ("text=One step", None),
}


def test_every_live_figure_is_tested_here(site):
    found = {str(page.relative_to(site).with_suffix("")) for page in pages(site) if 'class="live"' in page.read_text()}
    assert found == set(LIVE)


@pytest.mark.parametrize("name", LIVE)
def test_live_figure_agrees_with_jax_and_answers(site, checks, name):
    page, (element, key) = checks.browser.new_page(), LIVE[name]
    page.goto((site / f"{name}.html").as_uri())
    page.locator("iframe.live").scroll_into_view_if_needed()
    frame = page.query_selector("iframe.live").content_frame()
    frame.wait_for_selector("body[data-ready]", state="attached", timeout=60_000)  # its numbers were those of JAX
    assert not frame.is_visible("#poster")
    before = frame.get_attribute("#app", "data-output")
    frame.press(element, key) if key else frame.click(element)
    frame.wait_for_function(f"document.getElementById('app').dataset.output !== {json.dumps(before)}")
    page.close()


@pytest.mark.parametrize("name", LIVE)
def test_live_figure_without_javascript_is_a_picture(site, name):
    frame = BeautifulSoup((site / f"{name}.html").read_text(), "html.parser").find("iframe", class_="live")
    page = BeautifulSoup(frame["srcdoc"], "html.parser")
    assert not page.find(id="poster").has_attr("hidden")  # the script hides it, once its numbers are those of JAX
    assert page.find(id="poster")["src"].startswith("data:image/png;base64,")
    assert page.find(id="app").has_attr("hidden")
