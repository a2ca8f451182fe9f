"""Scores: generated images compared with a reference, each number with the protocol that it depends on."""
