"""The code of the guide runs: Python blocks in one namespace a page, bash blocks in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
PYTHON_PAGES = ("python.md",)
BASH_PAGES = ("start.md",)


def blocks(page, language):
    text = (GUIDE / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_python_blocks_run(page):
    namespace = {}
    found = blocks(page, "python")
    assert len(found) >= 3
    for block in found:
        exec(compile(block, page, "exec"), namespace)  # noqa: S102 - our own documentation


def run_bash(page, folder):
    """Run a page's bash blocks as one script in a folder."""
    found = blocks(page, "bash")
    assert len(found) >= 3
    environment = {name: value for name, value in os.environ.items() if "MOMENTARY" not in name}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    script = "set -euo pipefail\n" + "\n".join(found)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("page", BASH_PAGES)
def test_bash_blocks_run(page, tmp_path):
    done = run_bash(page, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "board.png").stat().st_size > 10_000
    assert "0 events added" in done.stdout


def test_links_between_pages_lead_somewhere():
    for page in [*GUIDE.glob("*.md"), GUIDE.parents[1] / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
