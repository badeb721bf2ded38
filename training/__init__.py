"""How the shipped model is made: the corpora, the annotations, and the recipes that use `listening_clf.finetune`."""
