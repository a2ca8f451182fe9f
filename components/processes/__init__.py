"""Processes: what is noise, what is predicted, what is the loss."""
