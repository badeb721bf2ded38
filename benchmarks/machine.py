"""On what and with what something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.protocol import ROOT

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers")

_X86 = {"fma", "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"}
_ARM = {"asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"}
FLAGS = _X86 | _ARM
"""What a processor says of itself that matters to matrix products."""


def machine() -> dict[str, Any]:
    """The processor, the versions of packages, the commit, and how busy the machine has been, ready for JSON."""
    about = _cpuinfo()
    return {
        "cpu": about.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in about.get("flags", about.get("Features", "")).split() if flag in FLAGS],
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _cpuinfo() -> dict[str, str]:
    """What /proc/cpuinfo says of the last core."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8").stdout.strip()
