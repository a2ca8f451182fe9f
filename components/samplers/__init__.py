"""Samplers: noise to streams, along a velocity or down a chain of denoising steps."""
