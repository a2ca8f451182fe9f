"""Attention kernels: queries, keys and values to outputs."""
