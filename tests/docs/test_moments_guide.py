"""The guide of the moments runs: its commands in order in one folder, then its Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "moments.md"


def blocks(language):
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_and_the_python_run(tmp_path):
    found = blocks("bash")
    assert len(found) >= 3
    environment = {name: value for name, value in os.environ.items() if "MOMENTARY" not in name}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    script = "set -euo pipefail\n" + "\n".join(found)
    python = "\n".join(blocks("python"))
    for command in (["bash", "-c", script], [sys.executable, "-c", python]):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "raises" in done.stdout
    assert (tmp_path / "brighter.png").read_bytes().startswith(b"\x89PNG")
    assert '"over_promises":["subject_size"]' in (tmp_path / "clicks-and-returns.html").read_text()
    assert '"decision":{' in (tmp_path / "moments.html").read_text()
