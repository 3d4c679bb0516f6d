"""Projected against measured memory: each phase of studies like those of `jobs/`, in a worker process of its own.

They have the sizes of a job, on which memory depends, and as few cells, members, steps and samples as will do.
That takes five minutes on an idle core. `make bench` measures all; with names of studies as arguments only these.
"""

import sys

from support import memory

from ntkhpc import studies
from ntkhpc.studies.base import Study

STUDIES = {
    "small": memory.ENSEMBLE.format(
        pool=512, test=200, widths=[32], n_train=[32, 48], members=40, curve=[32, 64], times=["steps", "infinite"]
    ),
    "calorimeter": memory.ENSEMBLE.format(
        pool=8192, test=2000, widths=[32, 128, 512], n_train=[32, 256], members=200, curve=[1448, 2048],
        times=["steps", "fixed", "infinite"],
    ),
    "calorimeter-full": memory.ENSEMBLE.format(
        pool=32768, test=2000, widths=[1024], n_train=[2048], members=50, curve=[3072, 4096], times=["infinite"]
    ),
    "bayes-light": memory.POSTERIOR.format(
        n_train=300, test=500, widths=[25, 400], sampler="hmc", neurons=1000, populations=2
    ),
    "bayes": memory.POSTERIOR.format(
        n_train=1000, test=1000, widths=[500], sampler="hmc", neurons=2000, populations=2
    ),
    "bayes-nuts": memory.POSTERIOR.format(
        n_train=100, test=500, widths=[50], sampler="nuts", neurons=1000, populations=0
    ),
    "bayes-langevin": memory.POSTERIOR.format(
        n_train=100, test=500, widths=[50], sampler="langevin", neurons=1000, populations=0
    ),
}  # fmt: skip


def study(name: str) -> Study:
    return studies.loads(STUDIES[name])


def main(names: list[str]) -> None:
    for name in names or STUDIES:
        for peak in memory.peaks(study(name)):
            print(f"{name:16} {peak}", flush=True)
    for name in [one for one in ("calorimeter", "bayes-light") if not names]:
        for peak in memory.peaks(study(name), together=True):
            print(f"{name + ', one worker':16} {peak}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
