"""Where checkpoints come from and go to: `find` knows every kind of name, `locate` gives the folder.

A model is named by NAME or NAME@REVISION, where NAME is, looked for in this order:

    small, tiny                                       a model that comes with the library; it has no revisions
    my-model, /data/my-model                          a checkpoint folder; it has none either
    file:///models/team/calls, /models/team/calls     a model in a directory that serves as a hub (`hub.directory`)
    org/name                                          a model on the Hugging Face hub (`hub.remote`)
"""

from listening_clf.hub.source import BUNDLED, DEFAULT_MODEL, bundled_models, destination, fetch_whole, find, locate

__all__ = ["BUNDLED", "DEFAULT_MODEL", "bundled_models", "destination", "fetch_whole", "find", "locate"]
