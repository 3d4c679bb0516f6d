"""A tiny comparison: one ensemble in variants of which one has no law of its own, and one has no curves."""

TEXT = """
kind = "comparison"
name = "compared"
seed = 5
[data]
source = "calorimeter"
pool = 60
test = 15
[network]
widths = [4, 8]
[training.steps]
factor = 1.0
[ensemble]
n_train = [8, 12, 16]
members = 12
tile = 4
shard_members = 8
trace_points = 4
recheck = 0.2
[infinite_width]
times = ["steps"]
redraws = 6
[[variants]]
name = "gd"
[[variants]]
name = "adam"
training = { optimiser = "adam", learning_rate = 0.05 }
[[variants]]
name = "mup"
network = { parametrisation = "mup", gamma0 = 0.5 }
"""
