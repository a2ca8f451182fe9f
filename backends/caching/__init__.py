"""Stored moments and features: what frozen networks say of images, computed once."""
