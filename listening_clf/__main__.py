"""`python -m listening_clf` is `listening-clf`, so that `accelerate launch -m listening_clf train …` can start it."""

from listening_clf.cli import app

app(prog_name="listening-clf")
