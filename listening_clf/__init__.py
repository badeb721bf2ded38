"""listening_clf: was the agent listening?

Tags every agent turn of a service conversation with the listening labels of the codebook: paraphrase, reflection,
open question, summary, interruption.

>>> import listening_clf as lc
>>> lc.predict("So you were charged twice for the same order.", context="There are two charges on my card.").labels
('paraphrase',)
"""

from listening_clf.classifier import ListeningClassifier, predict
from listening_clf.conversation import Conversation, Prediction, Turn
from listening_clf.errors import (
    CheckpointError,
    DeviceError,
    ListeningError,
    ServeError,
    SpeakersError,
    ThresholdError,
    TrainingError,
    TranscriptError,
    TurnError,
)
from listening_clf.labels import Label

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "Conversation",
    "DeviceError",
    "Label",
    "ListeningClassifier",
    "ListeningError",
    "Prediction",
    "ServeError",
    "SpeakersError",
    "ThresholdError",
    "TrainingError",
    "TranscriptError",
    "Turn",
    "TurnError",
    "__version__",
    "predict",
]
