"""A headless Chromium; tests that need one are skipped with the reason where there is none."""

import shutil

import pytest


@pytest.fixture
def page():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser.new_page()
        browser.close()
