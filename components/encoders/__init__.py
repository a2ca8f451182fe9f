"""Frozen semantic encoders: images to features."""
