"""Guidance: wraps the denoiser; neither denoiser nor sampler knows it."""
