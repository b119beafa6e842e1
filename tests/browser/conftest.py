"""A real browser: Chromium, headless, driven by Playwright."""

import shutil

import pytest


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; tests that need one are skipped where there is none.

    Playwright keeps an event loop running in this thread, so it must end with the module: other
    tests run loops of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=binary, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """An empty page of its own."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()
