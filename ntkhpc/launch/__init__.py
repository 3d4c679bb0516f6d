"""Getting shards to run: preparing a run directory and handing its missing shards to an executor."""
