"""The HTTP service: the `serve` extra. `listening-clf serve` runs it; docs/serve.md describes it."""

from listening_clf.serve.server import serve
from listening_clf.serve.settings import Settings

__all__ = ["Settings", "serve"]
