"""Where a recipe runs: spaces, the training engine, generation and evaluation."""
