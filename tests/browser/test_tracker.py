"""The tracker on a shop's page of another site, in a real browser, against a real service."""

import functools
import http.server
import threading
import time
from contextlib import closing

import pytest

from momentary.data.events import EventLog
from momentary.settings import api_key_digest
from tests.serving.world import ServerProcess, make_home

PAGE = """<!doctype html><meta charset="utf-8"><title>shop</title>
<style>a {{ display: block; height: 200px; }} .far {{ margin-top: 3000px; }}</style>
<a id="first" data-momentary-item="tea/green" data-momentary-recommendation="r-1"
   data-momentary-position="0" href="other.html">Green tea</a>
<a id="second" data-momentary-item="brötchen" href="#">Brötchen</a>
<a id="far" class="far" data-momentary-item="i1" href="#">far below</a>
<script async src="{service}/tracker.js" data-key="browser" data-dwell-ms="200"></script>
"""


@pytest.fixture
def shop(tmp_path):
    """A service with a browser's key, and a shop's pages on another origin."""
    home, pages = tmp_path / "home", tmp_path / "pages"
    home.mkdir()
    pages.mkdir()
    make_home(home).close()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(pages))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        origin = f"http://127.0.0.1:{site.server_port}"
        service = ServerProcess(
            home,
            cors_origins=[origin],
            api_keys=[f"write:{api_key_digest('browser')}"],
        )
        page = PAGE.format(service=f"http://127.0.0.1:{service.port}")
        (pages / "index.html").write_text(page, encoding="utf-8")
        (pages / "other.html").write_text("<!doctype html><title>other</title>")
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield origin, home, service
        site.shutdown()
        thread.join()
        service.stop()


def _events(home, count):
    """The events of the log, once there are so many."""
    end = time.monotonic() + 30
    while True:
        with closing(EventLog(home / "events.sqlite")) as log:
            found = list(log.read())
        if len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.1)


def _waits(page, condition):
    """Wait until what the page holds back to send meets a condition, as it does for a second."""
    page.wait_for_function(
        "() => { const waiting = JSON.parse(localStorage['momentary.waiting'] || '[]'); "
        f"return {condition}; }}"
    )


def test_what_is_seen_and_clicked_is_sent_and_survives_the_page(chromium, shop):
    origin, home, _ = shop
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(f"{origin}/index.html")
        page.wait_for_function("window.momentary !== undefined")
        _waits(page, "2 <= waiting.length")
        # The click leaves the page at once; the event has to go out all the same.
        page.click("#first")
        page.wait_for_url("**/other.html")
        found = _events(home, 3)

    kinds = sorted((each.event_type, each.item_id) for each in found)
    assert kinds == [
        ("select_item", "tea/green"),
        ("view_item_list", "brötchen"),
        ("view_item_list", "tea/green"),
    ]
    (click,) = (each for each in found if each.event_type == "select_item")
    assert (click.recommendation_id, click.position) == ("r-1", 0)
    assert len({each.anonymous_id for each in found}) == 1
    assert len({each.session_id for each in found}) == 1


def test_an_item_counts_as_seen_when_it_comes_into_view(chromium, shop):
    origin, home, _ = shop
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(f"{origin}/index.html")
        page.wait_for_function("window.momentary !== undefined")
        _waits(page, "2 <= waiting.length")
        page.evaluate("document.querySelector('#far').scrollIntoView()")
        _waits(page, "waiting.some((event) => event.item_id === 'i1')")
        page.evaluate("momentary.identify('customer-1')")
        page.evaluate("momentary.track({event_type: 'add_to_cart', item_id: 'i1', value: 2})")
        page.evaluate("momentary.flush()")
        found = _events(home, 4)

    assert {each.item_id for each in found if each.event_type == "view_item_list"} == {
        "tea/green",
        "brötchen",
        "i1",
    }
    (cart,) = (each for each in found if each.event_type == "add_to_cart")
    assert (cart.user_id, cart.value) == ("customer-1", 2)


def test_events_wait_in_the_browser_while_the_service_is_away(chromium, shop):
    origin, home, service = shop
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(f"{origin}/index.html")
        page.wait_for_function("window.momentary !== undefined")
        seen = len(_events(home, 2))
        service.kill()
        page.evaluate("momentary.track({event_type: 'view_item', item_id: 'i2'})")
        page.evaluate("momentary.flush()")
        _waits(page, "waiting.some((event) => event.item_id === 'i2')")
        service.start_again()
        page.goto(f"{origin}/index.html")
        found = _events(home, seen + 1)

    assert seen >= 2
    assert ("view_item", "i2") in {(each.event_type, each.item_id) for each in found}
