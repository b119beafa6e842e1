"""The commands of the content guide run as they stand, the service's included."""

import shutil

import pytest

from tests.docs.test_guide import run_bash


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_content_blocks_run(tmp_path):
    done = run_bash("content.md", tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "image: 0 encoded, 35 known, 1 set aside" in done.stdout
    assert "red-11" in done.stderr
    assert "that the model has never seen have a place" in done.stdout
    assert '"item_id":"fresh"' in done.stdout
    assert "new here; like" in done.stdout
    assert '"item_id":"green-' in done.stdout
    assert done.stdout.rpartition("model_version")[2].count('"item_id":"bell"') == 1
