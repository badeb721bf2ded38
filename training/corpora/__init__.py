"""The public corpora that the shipped model is trained and measured on: one reader a corpus.

Every reader yields conversations as the corpus has them, without labels of ours; `training.annotate` adds these.
"""
