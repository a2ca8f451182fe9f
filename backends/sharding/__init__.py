"""How model, optimizer and moving average lie on the devices of a run: whole on each, or a part of them on each."""
