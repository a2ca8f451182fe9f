"""Projections: encoder features to the semantic stream."""
