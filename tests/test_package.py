"""The package as it is built, installed alone, and imported."""

import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from the tree, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_all_that_the_package_reads(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "src").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(ROOT / "src").as_posix() in packed


def test_a_bare_install_answers(wheel, tmp_path):
    """Unpacked elsewhere and alone on the path, it prints its help and opens a workspace."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import momentary; "
        f"assert momentary.__file__.startswith({str(site)!r}), momentary.__file__; "
        "from pathlib import Path; from momentary.data.workspace import Workspace; "
        "Workspace.open(Path('home'), create=True).close(); "
        "sys.argv = ['momentary', '--help']; from momentary.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "recommend" in done.stdout
    assert (tmp_path / "home" / "workspace.sqlite").is_file()


def test_every_dependency_of_the_package_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    names = {re.split(r"[\[<>=;! ]", each)[0].lower().replace("_", "-") for each in wanted}
    assert names <= pinned
