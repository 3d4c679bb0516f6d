"""Eigendecompositions stay within what LAPACK's 32-bit indices can address."""

import ast

import numpy as np
import pytest
import scipy.linalg
from support.runs import ROOT

from ntkhpc import infinite_width, linalg, loss_law
from ntkhpc.bayesian.prior import Prior
from ntkhpc.bayesian.spectrum import Spectrum
from ntkhpc.networks import MLP


def kernel(n: int = 60) -> np.ndarray:
    rows = np.random.default_rng(3).normal(size=(n, 2 * n))
    return rows @ rows.T / n


def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The drivers that SciPy is asked for from here on."""
    drivers = []
    real = scipy.linalg.eigh

    def recorded(matrix: np.ndarray, *, driver: str, check_finite: bool) -> tuple[np.ndarray, np.ndarray]:
        drivers.append(driver)
        return real(matrix, driver=driver, check_finite=check_finite)

    monkeypatch.setattr(scipy.linalg, "eigh", recorded)
    return drivers


def test_the_limit_is_the_largest_size_whose_workspace_fits_32_bits() -> None:
    def workspace(n: int) -> int:
        return 1 + 6 * n + 2 * n**2

    n = linalg.LARGEST_EVD
    assert workspace(n) < 2**31 <= workspace(n + 1)
    assert scipy.linalg.lapack.dsyevd_lwork(n, lower=1)[0] == workspace(n)
    assert scipy.linalg.lapack.dsyevr_lwork(10 * n, lower=1)[0] < 500 * n


def test_below_the_limit_the_bits_are_those_of_divide_and_conquer() -> None:
    one, two = scipy.linalg.eigh(kernel(), driver="evd", check_finite=False), linalg.eigh(kernel())
    assert all(ours.tobytes() == theirs.tobytes() for ours, theirs in zip(two, one, strict=True))


def test_beyond_the_limit_another_driver_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = used(monkeypatch)
    values, vectors = linalg.eigh(kernel())
    monkeypatch.setattr(linalg, "LARGEST_EVD", 59)
    others, turned = linalg.eigh(kernel())
    assert drivers == ["evd", "evr"]
    np.testing.assert_allclose(others, values, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(turned * vectors, axis=0)), 1, rtol=1e-12)
    np.testing.assert_allclose((turned * others) @ turned.T, kernel(), rtol=0, atol=1e-12 * values[-1])


def laws() -> list[np.ndarray]:
    """What every user of `eigh` makes of it: laws at finite times, quantiles of a loss, the mean of a posterior."""
    draw = np.random.default_rng(1)
    x, y, test = draw.normal(size=(40, 6)), draw.normal(size=(40, 1)), draw.normal(size=(30, 6))
    mean, covariance = infinite_width.trained_law(MLP(1, "relu"), x, y, test, time=50)
    chances = np.array([0.05, 0.5, 0.95])
    quantiles = loss_law.quantiles(mean, covariance, np.zeros((30, 1)), chances)
    spectrum, _ = Spectrum.make(
        Prior(kernel(40), draw.normal(size=(40, 30)), np.ones(30), np.zeros(40), np.zeros(30)), y
    )
    return [mean, covariance, quantiles, *spectrum.predict(np.array([0.5, 2.0]), 0.1)]


@pytest.mark.promise("Laws and posteriors agree to 10 digits with the eigensolver that stands in beyond 32,766 rows.")
def test_laws_and_posteriors_are_the_same_with_either_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = used(monkeypatch)
    one = laws()
    monkeypatch.setattr(linalg, "LARGEST_EVD", 5)
    for ours, theirs in zip(laws(), one, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())
    assert drivers == 3 * ["evd"] + 3 * ["evr"]


def test_nobody_else_asks_scipy_for_eigenvalues() -> None:
    """But for the small matrices of Krylov spaces, inside of compiled programs."""
    for path in sorted((ROOT / "ntkhpc").rglob("*.py")):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found = {call for call in calls if call.startswith(("scipy.linalg.eig", "jnp.linalg.eig", "jax.numpy.linalg"))}
        assert not found or path.name in ("linalg.py", "lanczos.py"), f"{path}: {found}"
