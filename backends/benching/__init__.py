"""Benchmarks: what a recipe's parts take on this machine, beside each other and beside what the machine can do."""
