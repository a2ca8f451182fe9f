"""Samplers: noise to streams along a velocity."""
