"""Several recipes and seeds, scored alike: tables, curves, samples side by side."""
