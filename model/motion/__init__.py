"""Facial motion: the frozen 32-number motion space, its VAE, idle motion and smoothing."""
