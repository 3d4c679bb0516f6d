"""Studies of kind `bayes`, one module a phase."""
