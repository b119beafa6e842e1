"""Traces: what stands in them, what does not, and that nothing is imported without them."""

import subprocess
import sys

import pytest

from momentary.errors import SettingsError
from momentary.serving.tracing import Tracing, tracing_of
from momentary.settings import ServeSettings
from tests.serving.world import NOW_US, BrokenScorer, ask, event, make_home, make_recommender


@pytest.fixture
def spans():
    """An exporter that keeps what it is given, and a tracing that gives it everything."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, Tracing(provider)


@pytest.fixture
def traced(spans, tmp_path):
    from momentary.serving.app import create_app

    made = []

    def open_app(scorer=None):
        app = create_app(
            make_home(tmp_path),
            make_recommender(scorer),
            model_version="v1",
            clock_us=lambda: NOW_US,
        )
        app.trace(spans[1])
        made.append(app)
        return app

    yield open_app
    for app in made:
        app.close()


def test_a_request_and_its_stages_are_one_trace(spans, traced):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"session_id": "s", "event": event("s", "tea/green")}
    answer = ask(traced(), "POST", "/v1/recommend", json=body, headers={"traceparent": parent})
    assert answer.status_code == 200
    found = {span.name: span for span in spans[0].get_finished_spans()}
    assert list(found) == ["recall", "rank", "commit", "POST recommend"]
    request = found["POST recommend"]
    assert f"{request.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "recommend",
        "http.response.status_code": 200,
    }
    for stage in ("recall", "rank", "commit"):
        assert found[stage].parent.span_id == request.context.span_id
        assert request.start_time <= found[stage].start_time <= found[stage].end_time


def test_spans_hold_no_ids_paths_or_bodies(spans, traced):
    app = traced()
    ask(app, "GET", "/v1/sessions/secret-session/recommend?k=3")
    ask(app, "DELETE", "/v1/users/secret-person", headers={"x-api-key": "secret-key"})
    ask(app, "GET", "/v1/secret-path", headers={"traceparent": "secret-nonsense"})
    ask(app, "POST", "/v1/events", json=event("secret-visit", "secret-item"))
    said = "".join(span.to_json() for span in spans[0].get_finished_spans())
    assert "GET sessions/recommend" in said
    assert "secret" not in said


def test_a_failure_is_marked(spans, traced):
    assert ask(traced(BrokenScorer()), "POST", "/v1/recommend", json={}).status_code == 503
    (request,) = (span for span in spans[0].get_finished_spans() if span.kind.name == "SERVER")
    assert request.status.status_code.name == "ERROR"
    assert request.attributes["http.response.status_code"] == 503


def test_without_a_collector_nothing_of_it_is_imported():
    program = (
        "import sys\n"
        "from momentary.serving.app import create_app\n"
        "from momentary.serving.tracing import tracing_of\n"
        "from momentary.settings import ServeSettings\n"
        "assert tracing_of(ServeSettings()) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_collector_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"pip install 'momentary\[otel\]'"):
        tracing_of(ServeSettings(otlp_url="http://127.0.0.1:4318"))


@pytest.mark.parametrize("bad", [{"otlp_url": "collector:4318"}, {"trace_share": 1.5}])
def test_settings_that_cannot_work_are_refused(bad):
    with pytest.raises(SettingsError, match=r"serve\."):
        ServeSettings(**bad)


def test_spans_reach_a_collector():
    """The real exporter against a collector that notes what is posted to it."""
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed"
    )
    import http.server
    import threading

    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracing = tracing_of(ServeSettings(otlp_url=f"http://127.0.0.1:{server.server_port}/"))
        with tracing.stage("rank"):
            pass
        tracing.close()
        server.shutdown()
    ((path, body),) = got
    assert path == "/v1/traces"
    assert b"momentary" in body
    assert b"rank" in body
