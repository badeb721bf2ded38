"""Real parts for the tests: the bundled model, and a tiny one that is trained within seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from listening_clf import Conversation, ListeningClassifier
from listening_clf.hub import BUNDLED

ROOT = Path(__file__).parent.parent

# A tiny model is trained fastest by one thread. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bundled() -> ListeningClassifier:
    return ListeningClassifier.from_pretrained()


@pytest.fixture(scope="session")
def bundled_folder() -> Path:
    return BUNDLED / "small"


@pytest.fixture(scope="session")
def conversations() -> list[Conversation]:
    """Some of the authored conversations, fully labelled."""
    from training.corpora import authored

    return list(authored.read())[:24]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, conversations: list[Conversation]) -> str:
    """A BERT of two small layers that knows nothing yet, with a vocabulary of the conversations."""
    import torch
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    wordpieces = BertWordPieceTokenizer(lowercase=True)
    texts = [turn.text for conversation in conversations for turn in conversation.turns]
    wordpieces.train_from_iterator(texts, vocab_size=800, show_progress=False)
    BertTokenizerFast(tokenizer_object=wordpieces._tokenizer).save_pretrained(folder)
    config = BertConfig(
        vocab_size=wordpieces.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def plain_encoder(architecture: str, vocabulary_of: str, folder: Path) -> str:
    """A small encoder of that architecture that knows nothing yet."""
    import torch
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if architecture == "DistilBert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    tokenizer = transformers.AutoTokenizer.from_pretrained(vocabulary_of)
    tokenizer.save_pretrained(folder)
    settings = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer),
        max_position_embeddings=160,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        **sizes,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(settings).save_pretrained(folder)
    return str(folder)
