"""Audio-conditioned diffusion of motion latents over short windows, and its few-step samplers."""
