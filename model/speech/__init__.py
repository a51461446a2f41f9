"""Streaming speech features: causal log-mel, a windowed Whisper encoder, and 256 numbers per video frame."""
