"""Denoisers: one transformer for all streams."""
