"""Tokenizers: images to the image stream and back."""
