"""Studies of kind `ensemble`, one module a phase."""
