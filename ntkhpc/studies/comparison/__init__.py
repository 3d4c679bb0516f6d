"""Studies of kind `comparison`: variants of one ensemble, side by side in one run."""
