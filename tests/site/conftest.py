"""The built site, and one Chromium for all tests of it."""

import os
from pathlib import Path

import pytest
from page_checks import CHROMIUM, MISSING, BrowserChecks
from playwright.sync_api import sync_playwright

SITE = Path(os.environ.get("BOOK_SITE", Path(__file__).parents[2] / "_build" / "html")).resolve()


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").exists():
        pytest.fail(f"{SITE} is not built: make book")
    return SITE


@pytest.fixture(scope="session")
def checks():
    if CHROMIUM is None:
        pytest.fail(MISSING)
    with sync_playwright() as playwright:
        yield BrowserChecks(playwright)
