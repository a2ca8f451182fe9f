"""How the shipped networks were made. `python -m latsem.backends.pretraining NAME` makes one again from its seed."""
