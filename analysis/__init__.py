"""What a finished run says. Reads a run directory, trains nothing.

Here are the statistics: moments, scaling laws, agreement with exact laws. `report` makes a report from sections;
`ensemble` and `posterior` are the sections of each kind of study, one file a section.
"""
