"""File formats: one module per layout, each knowing keys, units and order of one kind of file and nothing else."""
