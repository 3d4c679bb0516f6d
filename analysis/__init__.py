"""What a finished run says: moments, scaling laws, figures and a report. Reads a run directory, trains nothing."""
