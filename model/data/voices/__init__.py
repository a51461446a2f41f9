"""Voices of the training corpus: synthesisers that say what sounds when, and random utterances in them."""

from model.data.voices.catalogue import HELD_OUT
from model.data.voices.drawing import VoiceSet, held_out_utterances, random_utterance
from model.data.voices.espeak import EspeakSynthesiser
from model.data.voices.festival import FestivalRequest, FestivalSynthesiser
from model.data.voices.flite import FliteSynthesiser

__all__ = [
    "HELD_OUT",
    "EspeakSynthesiser",
    "FestivalRequest",
    "FestivalSynthesiser",
    "FliteSynthesiser",
    "VoiceSet",
    "held_out_utterances",
    "random_utterance",
]
