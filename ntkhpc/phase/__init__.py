"""The vocabulary in which a study and its phases are described: arrays, dimensions, phases, kinds."""
