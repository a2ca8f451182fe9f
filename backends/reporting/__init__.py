"""`report.html` for runs and comparisons: what a folder holds, as one file to read."""
