"""What a finished run says. Reads a run directory, trains nothing.

Here are the statistics: moments, scaling laws, agreement with exact laws. `report` makes a report from sections;
`ensemble` and `posterior` are the sections of each kind of study, one file a section.
"""

from ntkhpc.surroundings import without_files_of_the_user

with without_files_of_the_user():  # Dask reads them as it is imported, and a report depends on none of them
    import dask.config  # noqa: F401  imported for what it reads
