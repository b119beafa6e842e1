"""Traces for OpenTelemetry, if the settings name a collector: requests, and the stages of a tick.

Nothing of OpenTelemetry is imported otherwise. A request's span takes up the caller's trace
(W3C `traceparent`); the stages that answer several requests at once stand in the trace of the first
of them. Spans name routes, never paths, ids or bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from momentary.errors import SettingsError
from momentary.settings import ServeSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Http = Callable[[Scope, Receive, Send], Awaitable[None]]

_NAME = "momentary"
_FAILED_FROM = 500


class Timed(Protocol):
    """What measures one stage, such as a Prometheus histogram."""

    def time(self) -> AbstractContextManager[Any]:
        """Measure what happens inside."""
        ...


class Stages(Protocol):
    """What measures the stages of a tick by name."""

    def labels(self, stage: str) -> Timed:
        """What measures one of them."""
        ...


class Tracing:
    """Makes spans and sends them away.

    Args:
        provider: Where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def around(self, serve: Http, *, route: Callable[[Scope], str]) -> Http:
        """The same service with a span for each request.

        Args:
            serve: Answers one request.
            route: Names its route.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            method, name = scope["method"], route(scope)
            with self._tracer.start_as_current_span(
                f"{method} {name}",
                context=self._propagator.extract(_carrier(scope)),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": method, "http.route": name},
            ) as span:

                async def sends(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        status = message["status"]
                        span.set_attribute("http.response.status_code", status)
                        if status >= _FAILED_FROM:
                            span.set_status(Status(StatusCode.ERROR))
                    await send(message)

                await serve(scope, receive, sends)

        return traced

    def stages(self, measured: Stages) -> Stages:
        """The same measures, with a span for each stage."""
        return _TracedStages(measured, self.stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A span for what happens inside."""
        with self._tracer.start_as_current_span(name):
            yield

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def tracing_of(settings: ServeSettings) -> Tracing | None:
    """What the settings ask for, None if they name no collector.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    if not settings.otlp_url:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise SettingsError(
            "serve.otlp_url needs OpenTelemetry; run: pip install 'momentary[otel]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": _NAME}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_url.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


class _TracedStages:
    def __init__(
        self, measured: Stages, span: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        self._measured = measured
        self._span = span

    def labels(self, stage: str) -> Timed:
        return _TracedStage(self._measured.labels(stage), self._span, stage)


class _TracedStage:
    def __init__(
        self, timed: Timed, span: Callable[[str], AbstractContextManager[None]], name: str
    ) -> None:
        self._timed = timed
        self._span = span
        self._name = name

    @contextmanager
    def time(self) -> Iterator[None]:
        with self._span(self._name), self._timed.time():
            yield


def _carrier(scope: Scope) -> dict[str, str]:
    """The headers that carry the caller's trace."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }
