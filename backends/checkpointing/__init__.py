"""Checkpoints: safetensors and JSON, written beside and renamed, compared with their checksums before they are read."""
