"""What the service says of itself can be read by programs."""

import json
import logging
import subprocess
import sys

import pytest

from momentary.serving.logs import JsonLines


def _record(message, *values, error=None):
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("momentary.x", logging.ERROR, __file__, 1, message, values, info)


def test_a_record_is_one_line_of_json():
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as raised:
        text = JsonLines().format(_record("model %s failed", "v1", error=raised))
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == (
        "error",
        "momentary.x",
        "model v1 failed",
    )
    assert "RuntimeError: two\nlines" in line["trace"]
    assert "trace" not in json.loads(JsonLines().format(_record("fine")))


@pytest.mark.parametrize("kind", ["text", "json"])
def test_warnings_go_to_the_standard_error_in_the_wanted_form(kind):
    program = (
        "import logging; from momentary.serving.logs import write_logs; write_logs(%r); "
        "logging.getLogger('a').info('quiet'); logging.getLogger('a').warning('loud')"
    )
    said = subprocess.run(
        [sys.executable, "-c", program % kind], capture_output=True, text=True, check=True
    ).stderr
    (line,) = said.splitlines()
    assert json.loads(line)["message"] == "loud" if kind == "json" else line.endswith("loud")
