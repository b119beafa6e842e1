"""The commands of the operations guide work, one after the other, as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from momentary.data.workspace import Workspace
from tests.docs.test_serving_guide import IDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "operations.md"


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_every_command_of_the_operations_guide_works(tmp_path):
    clicks = "".join(
        f"u{visit % 20},{IDS[(visit + step) % 5]},{1_760_000_000 + visit * 4_000 + step},purchase\n"
        for visit in range(100)
        for step in range(3)
    )
    (tmp_path / "clicks.csv").write_text("user_id,item_id,timestamp,event_type\n" + clicks)
    command = tmp_path / "momentary"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m momentary "$@"\n')
    command.chmod(0o755)
    plain = {name: each for name, each in os.environ.items() if "MOMENTARY" not in name}
    environment = {**plain, "PATH": f"{tmp_path}:{plain['PATH']}"}

    def run(script):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    run(
        "momentary import clicks.csv --home demo-home; momentary train -m item_knn --home demo-home"
    )
    with Workspace.open(tmp_path / "demo-home") as workspace:
        workspace.open_log().close()
        before = [path.name for path in workspace.segments()]
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    said = [run(block) for block in blocks]

    assert len(blocks) == 5
    assert "older than 14 days moved" in said[0]
    assert IDS[1] in said[2]
    assert "north: 0 items" in said[3]
    assert [path.name for path in (tmp_path / "shops" / "tenants").iterdir()] == ["north"]
    with Workspace.open(tmp_path / "restored") as workspace:
        assert [path.name for path in workspace.segments()] == before
        assert all(path.is_file() for path in workspace.segments())
