"""The machinery that runs the phases of a study: it knows no kind of study, and asks JAX for the device only."""
