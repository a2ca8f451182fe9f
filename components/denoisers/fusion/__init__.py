"""Fusions: how the tokens of several streams meet in one transformer."""
