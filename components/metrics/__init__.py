"""Metrics: additive statistics of features, and distances between them."""
