"""Data sets: one module per source, with its section of a study file, its facts, its cost and its loader."""
