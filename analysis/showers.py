"""Pictures of the showers the generator makes. Run by `make showers`: profiles, fluctuations, one event, resolution."""

import os
from pathlib import Path
from typing import Any

import lmfit
import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.report.plotting import save, style
from ntkhpc.data.shower import Geometry, layer_energies, lcd_ecal, simulate

SEED = 1
ENERGIES = (10.0, 50.0, 200.0)
LINES, MARKERS = ("-", "--", "-."), ("o", "s", "^")
"""Of ENERGIES, beside their colours: not everyone tells those apart, and no printer in grey does."""
EVENT_ENERGY = 100.0
# Six of the default one, all thin plates first: deep enough to see what leaks out of it, and hadronic showers.
DEEP = lcd_ecal(passive_mm=(2.4,) * 6 * 17 + (4.8,) * 6 * 8, active_mm=(0.5,) * 6 * 25)


def profiles(count: int = 2000) -> Figure:
    """Mean energy per depth over the incident energy; dotted where the Particle Data Group puts the maximum.

    That is for homogeneous matter: in sampling calorimeters showers of Grindhammer and Peters peak up to 1 X0 earlier.
    """
    figure = Figure(figsize=(11, 4.1))
    panels = figure.subplots(1, 3)
    for axis, particle, c in zip(panels, ("electron", "photon", "pion"), (-0.5, 0.5, None), strict=True):
        depths = DEEP.hadronic_depths if c is None else DEEP.depths
        middle = (depths[1:] + depths[:-1]) / 2
        for energy, look in zip(ENERGIES, _looks(), strict=True):
            showers = np.full(count if c else 4 * count, energy)  # pions fluctuate more
            mean = layer_energies(DEEP, particle, showers, SEED).mean(axis=0) / energy
            axis.plot(middle, mean / np.diff(depths), **look, markevery=5, label=f"{energy:.0f} GeV")
            if c is not None:
                axis.axvline(np.log(energy / DEEP.critical_energy) + c, color=look["color"], ls=":", lw=1.2)
        axis.set_title(f"{particle}s")
        axis.set_ylim(bottom=0)
    for axis in panels[:2]:
        axis.set_xlim(0, 30)
        axis.axvline(lcd_ecal().depths[-1], color="0.55", lw=1.4, ls="--")
        axis.set_xlabel("depth $t$ [$X_0$]")
        axis.set_ylabel("$\\langle dE/dt\\rangle / E$ [1/$X_0$]")
    panels[2].set_xlim(0, 4)
    panels[2].axvline(lcd_ecal().hadronic_depths[-1], color="0.55", lw=1.4, ls="--")
    panels[2].set_xlabel("depth [$\\lambda_I$]")
    panels[2].set_ylabel("$\\langle dE/dl\\rangle / E$ [1/$\\lambda_I$]")
    panels[0].plot([], [], color="0.3", ls=":", lw=1.2, label="$\\ln(E/E_c) \\mp 0.5$ (PDG, homogeneous)")
    panels[0].plot([], [], color="0.55", ls="--", lw=1.4, label="end of the default calorimeter")
    figure.legend(handles=panels[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=5)
    return figure


def fluctuations(count: int = 4000) -> Figure:
    """How layers of the default calorimeter fluctuate: relative standard deviations, and correlations at one energy."""
    geometry = lcd_ecal()
    number = np.arange(geometry.layers) + 1
    figure = Figure(figsize=(11, 4.4))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    for energy, look in zip(ENERGIES, _looks(), strict=True):
        layers = _electrons(geometry, energy, count)
        left.plot(number, layers.std(axis=0) / layers.mean(axis=0), **look, markevery=3, label=f"{energy:.0f} GeV")
    left.set_yscale("log")
    left.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    left.set_yticks([], minor=True)
    left.set_xlabel("layer")
    left.set_ylabel("standard deviation / mean")
    left.set_title("energy of a layer, electrons")
    left.legend()
    edge = geometry.layers + 0.5
    for axis, energy in ((middle, ENERGIES[0]), (right, ENERGIES[-1])):
        correlation = np.corrcoef(_electrons(geometry, energy, count).T)
        drawn = axis.imshow(correlation, cmap="PuOr", vmin=-1, vmax=1, origin="lower", extent=(0.5, edge, 0.5, edge))
        levels = axis.contour(
            number, number, correlation, levels=[-0.5, -0.25, 0.25, 0.5], colors="black", linewidths=0.8
        )
        axis.clabel(levels, fontsize=7)
        axis.set_title(f"correlation, {energy:.0f} GeV")
        axis.set_xlabel("layer")
        axis.grid(False)
    middle.set_ylabel("layer")
    figure.colorbar(drawn, ax=[middle, right], label="correlation of the energies of two layers", shrink=0.8)
    return figure


def event(particle: str = "electron") -> Figure:
    """One shower in the default calorimeter: cells of six layers, and the shower from the side and from the front."""
    geometry = lcd_ecal()
    cells = 1e3 * simulate(geometry, particle, np.array([EVENT_ENERGY]), SEED)[0]
    half = geometry.cells * geometry.cell_mm / 2
    side, front = cells.sum(axis=2).T, cells.sum(axis=0).T
    look = {"norm": LogNorm(1, front.max()), "cmap": _map(), "origin": "lower", "aspect": "auto"}
    figure = Figure(figsize=(10, 5.6))
    rows = figure.add_gridspec(2, 1, height_ratios=[1, 1.5])
    top, bottom = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    shown = (1, 4, 7, 10, 14, 19)
    for axis, layer in zip(top.subplots(1, len(shown), sharey=True), shown, strict=True):
        axis.imshow(cells[layer].T, extent=(-half, half, -half, half), **look)
        axis.set_title(f"layer {layer + 1}: {cells[layer].sum() / 1e3:.2g} GeV", fontsize=9)
        axis.set_xlabel("$x$ [mm]")
        axis.set_box_aspect(1)
        axis.grid(False)
        if layer == shown[0]:
            axis.set_ylabel("$y$ [mm]")
    left, right = bottom.subplots(1, 2, width_ratios=[2, 1], gridspec_kw={"wspace": 0.08})
    left.imshow(side, extent=(0.5, geometry.layers + 0.5, -half, half), **look)
    left.set_title("from the side, summed over $y$")
    left.set_xlabel("layer")
    left.set_ylabel("$x$ [mm]")
    drawn = right.imshow(front, extent=(-half, half, -half, half), **look)
    right.set_title("from the front, summed over layers")
    right.set_xlabel("$x$ [mm]")
    right.set_ylabel("$y$ [mm]")
    right.set_box_aspect(1)
    for axis in (left, right):
        axis.grid(False)
    bottom.colorbar(drawn, ax=[left, right], label="energy per cell, or sum [MeV]", extend="min")
    inside = f"{cells.sum() / 1e3:.1f} GeV of it in the window"
    figure.suptitle(f"{particle}, {EVENT_ENERGY:.0f} GeV, {inside}", fontsize=10.5)
    return figure


def resolution(count: int = 4000) -> tuple[Figure, lmfit.model.ModelResult]:
    """sigma_E/E of the sum of all layers against E, and the fit of a/sqrt(E) (+) b where nothing leaks out behind."""
    energies = np.geomspace(10, 500, 9)
    figure = Figure(figsize=(6.4, 5.0))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    deep, default = _colours(2)
    measured, error = _relative_width(DEEP, energies, count)
    fit = lmfit.Model(_terms).fit(measured, energy=energies, weights=1 / error, a=0.2, b=0.02, scale_covar=False)
    terms = ", ".join(f"${name}$ = ({_percent(p)}) %" for name, p in fit.params.items())
    line = np.geomspace(8, 620, 200)
    top.plot(line, 100 * _terms(line, **fit.best_values), color=deep, lw=1.2, label=f"fit: {terms}")
    top.errorbar(energies, 100 * measured, 100 * error, fmt="o", color=deep, label=f"{DEEP.depths[-1]:.0f} $X_0$ deep")
    bottom.errorbar(energies, (measured - fit.best_fit) / error, 1, fmt="o", color=deep)
    measured, error = _relative_width(lcd_ecal(), energies, count)
    label = f"default, {lcd_ecal().depths[-1]:.1f} $X_0$: leakage adds"
    top.errorbar(energies, 100 * measured, 100 * error, fmt="s", color=default, label=label)
    top.set_ylim(bottom=0)
    top.set_ylabel("$\\sigma_E/E$ [%]")
    top.set_title("electrons, and $a/\\sqrt{E/\\mathrm{GeV}} \\oplus b$")
    top.legend()
    bottom.axhspan(-1, 1, color="0.9", zorder=0)
    bottom.axhline(0, color="black", lw=0.8)
    bottom.set_ylabel("pull of the fit")
    bottom.set_xlabel("energy $E$ [GeV]")
    bottom.set_xscale("log")
    bottom.set_xticks([10, 20, 50, 100, 200, 500], ["10", "20", "50", "100", "200", "500"])
    bottom.set_xticks([], minor=True)
    return figure, fit


def _percent(parameter: lmfit.Parameter) -> str:
    return f"{100 * parameter.value:.2f} ± {100 * parameter.stderr:.2f}"


def _relative_width(geometry: Geometry, energies: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation over mean of the sum of all layers, with the statistical error of `count` showers."""
    sums = [  # other showers at each energy: the same ones would share their constant terms
        layer_energies(geometry, "electron", np.full(count, energy), SEED, first=i * count).sum(axis=1)
        for i, energy in enumerate(energies)
    ]
    measured = np.array([sample.std(ddof=1) / sample.mean() for sample in sums])
    return measured, measured / np.sqrt(2 * (count - 1))


def _terms(energy: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.hypot(a / np.sqrt(energy), b)


def _electrons(geometry: Geometry, energy: float, count: int) -> np.ndarray:
    return layer_energies(geometry, "electron", np.full(count, energy), SEED)


def _looks() -> list[dict[str, Any]]:
    """Colour, line and marker for each of ENERGIES."""
    looks = zip(_colours(len(ENERGIES)), LINES, MARKERS, strict=True)
    return [{"color": colour, "ls": line, "marker": marker, "ms": 4} for colour, line, marker in looks]


def _colours(count: int) -> np.ndarray:
    return mpl.colormaps["viridis"](np.linspace(0.15, 0.75, count))


def _map() -> mpl.colors.Colormap:
    """Empty cells stay white."""
    return mpl.colormaps["inferno_r"].with_extremes(bad="white", under="white")


def main() -> None:
    folder = Path(os.environ.get("NTKHPC_RUNS") or "runs") / "showers"
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        curve, fit = resolution()
        figures = {"profiles": profiles(), "fluctuations": fluctuations(), "event": event(), "resolution": curve}
    save(figures, folder)
    for name in figures:
        print(*(folder / f"{name}.{ending}" for ending in ("pdf", "png")))
    terms = ", ".join(f"{name} = ({_percent(p)}) %" for name, p in fit.params.items())
    print(f"sigma_E/E = a/sqrt(E/GeV) (+) b in {DEEP.depths[-1]:.0f} X0: {terms}; chi2/ndf = {fit.redchi:.2f}")


if __name__ == "__main__":
    main()
