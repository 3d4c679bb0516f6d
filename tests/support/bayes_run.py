"""A small Bayesian study, its runs with chains of known answers in place of sampled ones, and their reports."""

from pathlib import Path

import numpy as np
import xarray
from support.autoregression import ar1
from support.runs import run_shards

from analysis import posterior
from analysis.report.provenance import provenance
from analysis.report.publication import Publication
from ntkhpc import files, studies
from ntkhpc.engine import arrays, run, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run

STUDY = """
kind = "bayes"
name = "posterior"
[data]
source = "calorimeter"
pool = 60
test = 20
[network]
widths = {widths}
[posterior]
n_train = {sizes}
draws = {draws}
temperature = 0.05
[scan]
temperatures = {temperatures}
readout_factors = {factors}
[adaptive]
populations = {populations}
neurons = 20
updates = 20
[sampling]
chains = {chains}
shard_chains = 2
draws = 60
tile = 20
widths = {sampled_widths}
n_train = {sampled_sizes}
"""


RNG_SEED = 20


def make(
    folder: Path,
    *,
    widths: str = "[10, 40]",
    sizes: str = "[15, 30, 60]",
    draws: int = 2,
    temperatures: str = "[0.01]",
    factors: str = "[0.5, 2.0]",
    chain_count: int = 4,
    sampled_widths: str = "[]",
    sampled_sizes: str = "[]",
    populations: int = 3,
) -> Run:
    """A run with data and theory by their own phases, all in one process."""
    text = STUDY.format(
        widths=widths, sizes=sizes, draws=draws, temperatures=temperatures, factors=factors, chains=chain_count,
        sampled_widths=sampled_widths, sampled_sizes=sampled_sizes, populations=populations,
    )  # fmt: skip
    target = run.create(folder, studies.loads(text))
    done = run_shards(target, [shard.id for phase in ("data", "theory") for shard in target.plan.of_phase(phase)])
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def sample(target: Run) -> None:
    """Fill the chains' arrays with chains about theory's values, 3 % above them, and give their shards receipts.

    Populations of neurons, if there are any, are 2 % above.
    """
    found, rng = xarray.open_zarr(target.store, chunks=None), np.random.default_rng(RNG_SEED)
    at = {"theory_width": found.sampled_width.values.astype(float), "n_train": found.sampled_n_train.values}
    theory = found.sel(at).transpose("theory_width", "n_train", "draw", ...)
    shape = store.load(target.store, "sample_loss")["sample_loss"].shape
    loss = (theory.theory_bias + theory.theory_variance).values[..., None, None]
    sigma = np.sqrt(theory.theory_sigma2).values[..., None, None]
    values = {
        "sample_expected_loss": 1.03 * loss + 0.1 * sigma * ar1(rng, shape),
        "sample_loss": 1.03 * loss + 0.5 * sigma * ar1(rng, shape),
        "sample_q_bar": theory.theory_q_bar.values[..., None, None] * (1 + 0.1 * ar1(rng, shape)),
        "sample_potential": ar1(rng, shape),
        "chain_acceptance": np.full(shape[:-1], 0.8),
        "chain_step_size": np.full(shape[:-1], 0.1),
        "chain_divergences": np.zeros(shape[:-1], int),
        "chain_gradients": np.full(shape[:-1], 600),
    }
    if target.plan.of_phase("adaptive"):
        populations = store.load(target.store, "adaptive_loss")["adaptive_loss"].shape
        values["adaptive_loss"] = 1.02 * loss[..., 0] * (1 + 0.004 * rng.standard_normal(populations))
    for name, value in values.items():
        store.open_array(target.store, name, writable=True)[...] = value
    for shard in (*target.plan.of_phase("adaptive"), *target.plan.of_phase("chains")):
        confirm(target, shard)


def confirm(target: Run, shard: Shard) -> None:
    """Write the receipt of a shard for the values that the store has, as a worker would that computed them."""
    theory = files.read_sealed(target.receipt(target.plan.of_phase("theory")[0]))
    there = arrays.stored(target.store)
    written = [there[array.name] for array in store.written(target.store, target.study, shard.phase)]
    values = {array.name: np.asarray(store.open_array(target.store, array.name)[array.region(shard.region)])
              for array in written}  # fmt: skip
    store.write(target.store, target.study, shard, values)  # also what nothing was written to
    own = {"phase": shard.phase, "shard": shard.id, "values": store.digests(values), "read": {}}
    target.receipt(shard).write_bytes(files.seal({**theory, **own}))


def composed(target: Run) -> tuple[Publication, str]:
    """A report and its page, without the seconds that figures take to be written."""
    publication = posterior.compose(target, partial=True)
    return publication, publication.page(provenance(target), dict.fromkeys(publication.figures, b""))
