"""What each phase computes. A phase is one module with `compute(run, shard, partial) -> (values, tiles reused)`."""
