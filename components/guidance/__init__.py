"""Guidance: wraps the denoiser's velocity; neither denoiser nor sampler knows it."""
