"""What docs/serve.md and deploy/ say works as they say it."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from listening_clf.cli import app
from tests.conftest import ROOT
from tests.serving import Service, running_service

DOCS = (ROOT / "docs" / "serve.md").read_text("utf-8")
ADDRESS = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL), ids=lambda it: it.split("\n")[0])
def test_the_examples_in_python_work(service: Service, block: str) -> None:
    assert ADDRESS in block
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.replace(ADDRESS, f"127.0.0.1:{service.port}"), "docs/serve.md", "exec"), {})
    assert "paraphrase" in printed.getvalue() or "InferenceClient" in block


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_examples_with_curl_work(service: Service) -> None:
    commands = re.findall(r"^curl .*$", DOCS, re.MULTILINE)
    assert len(commands) == 3
    for command in commands[:2]:
        here = command.replace("localhost:8000", f"localhost:{service.port}").replace("call.vtt", "examples/call.vtt")
        here = re.sub(
            r"--json ('.*')", r"-H 'Content-Type: application/json' -d \1", here
        )  # --json came with curl 7.82
        result = subprocess.run(here, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
        assert '"labels":["paraphrase"]' in result.stdout


def test_kubernetes_probes_ask_for_what_is_there(service: Service) -> None:
    deployment, exposed = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    with service.client() as http:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert http.get(container[probe]["httpGet"]["path"]).status_code == 200
        metrics: dict[str, Any] = deployment["spec"]["template"]["metadata"]["annotations"]
        assert http.get(metrics["prometheus.io/path"]).status_code == 200
    assert exposed["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_deployments_use_options_that_there_are() -> None:
    used = set()
    for file in ("Dockerfile", "listening-clf.service", "kubernetes.yaml"):
        text = (ROOT / "deploy" / file).read_text()
        used |= set(re.findall(r"(?<=[ \"])--(?:host|port|workers|model|[a-z]+-key-file)\b", text))
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert used >= {"--host", "--port", "--api-key-file"}
    assert all(option in shown for option in used)
