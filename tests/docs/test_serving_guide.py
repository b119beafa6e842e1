"""Every curl of the guide is answered by a running service."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
PAGES = ("serving.md", "rules.md")
IDS = ("1029743", "1082185", "995242", "1106523", "981760")
MOMENTARY = [sys.executable, "-m", "momentary"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service(tmp_path):
    """A small workspace with the ids of the guide, served on a free port."""
    home = tmp_path / "home"
    clicks = ["user_id,item_id,timestamp,event_type"]
    clicks += [
        f"u{visit % 20},{IDS[(visit + step) % 5]},{1_760_000_000 + visit * 4_000 + step},purchase"
        for visit in range(100)
        for step in range(3)
    ]
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    facts = {"price": 2, "category": "c", "brand": "2"}
    facts["properties"] = {"department": "GROCERY", "label": "National"}
    items = [json.dumps({"item_id": item, **facts}) for item in IDS]
    (tmp_path / "items.jsonl").write_text("\n".join(items) + "\n")
    environment = {name: value for name, value in os.environ.items() if "MOMENTARY" not in name}

    def run(*words):
        command = [*MOMENTARY, *words, "--home", str(home)]
        subprocess.run(command, check=True, capture_output=True, env=environment)

    run("import", str(tmp_path / "clicks.csv"), str(tmp_path / "items.jsonl"))
    run("train", "-m", "item_knn")
    port = free_port()
    command = [*MOMENTARY, "serve", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()


def _wait(port, process):
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"the service ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the service did not answer within 30 s")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_every_curl_is_answered(service, page):
    text = (GUIDE / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    script = "\n".join(blocks).replace(":8080", f":{service}")
    script = script.replace("curl -s", "curl -s --fail-with-body -w '\\n%{http_code}\\n'")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    codes = re.findall(r"^(\d{3})$", done.stdout, flags=re.MULTILINE)
    # One answer is kept in a variable; --fail-with-body has checked it.
    assert len(codes) == script.count("curl ") - script.count("$(curl ")
    assert set(codes) <= {"200", "201", "204"}
