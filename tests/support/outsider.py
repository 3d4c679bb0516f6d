"""A stranger with the store, NumPy and a reader of Zarr: recomputes the results without any of this project's code.

python outsider.py store.zarr      # prints JSON: mu_L, eps_L, eps_pop over (width, n_train, draw), and the law's
"""

import json
import sys

import numpy as np
import zarr


def ntk(x1, x2, depth, cw, cb):
    """Textbook NNGP and NTK of ReLU networks."""
    k, k1, k2 = (cw / x1.shape[1] * s + cb for s in (x1 @ x2.T, (x1**2).sum(1)[:, None], (x2**2).sum(1)[None]))
    t = k
    for _ in range(depth):
        cosine = np.clip(k / np.sqrt(k1 * k2), -1, 1)
        angle = np.arccos(cosine)
        k = cw * np.sqrt(k1 * k2) * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi) + cb
        t = k + cw * (np.pi - angle) / (2 * np.pi) * t
        k1, k2 = cw * k1 / 2 + cb, cw * k2 / 2 + cb
    return k, t


def main(path):
    store = zarr.open_group(path, mode="r")

    def get(name):
        return np.asarray(store[name][...])

    y, loss, trained = get("y_test"), get("test_point_loss").astype(np.float64), get("status") == 0
    result = {
        "mu_L": [],
        "eps_L": [],
        "eps_pop": [],
        "loss_error": 0.0,
        "law_mu_L": [],
        "law_eps_L": [],
        "law_eps_pop": [],
    }
    if "prediction" in store:
        again = ((get("prediction").astype(np.float64) - y) ** 2).sum(-1) / (2 * y.shape[1])
        result["loss_error"] = float(np.nanmax(abs(again - loss) / (1e-6 + loss)))
    points = loss.shape[-1]
    for cell in np.ndindex(loss.shape[:3]):
        one = loss[cell][trained[cell]]
        total = one.mean(axis=1)
        pairs = np.cov(one.T)  # population value: mean covariance of the losses of two different test points
        population = (pairs.sum() - np.trace(pairs)) / (points * (points - 1))
        result["mu_L"].append(total.mean())
        result["eps_L"].append(total.std(ddof=1) / total.mean())
        result["eps_pop"].append(np.sign(population) * np.sqrt(abs(population)) / total.mean())
    text = store.attrs["study_toml"]
    assert 'activation = "relu"' in text

    def number(name):
        return float(text.split(f"{name} = ")[1].split("\n")[0])

    depth, cw, cb = int(number("depth")), number("weight_variance"), number("bias_variance")
    x, xt, yt = get("x_train"), get("x_test"), get("y_train")
    for i, n in enumerate(get("n_train")):
        for draw in range(loss.shape[2]):
            rows = get("permutation")[draw, :n]
            k, t = ntk(x[rows], x[rows], depth, cw, cb)
            kc, tc = ntk(xt, x[rows], depth, cw, cb)
            kt = ntk(xt, xt, depth, cw, cb)[0]
            step = np.eye(n) - get("learning_rate")[draw, i] / (n * y.shape[1]) * t
            g = np.eye(n) - np.linalg.matrix_power(step, int(get("n_steps")[i]))
            a = tc @ np.linalg.solve(t, g)
            d = a @ yt[rows] - y
            cov = kt - a @ kc.T - kc @ a.T + a @ k @ a.T
            scale, outputs = 1 / (2 * y.size), y.shape[1]
            mu = scale * ((d**2).sum() + outputs * np.trace(cov))
            pairs = 2 * scale**2 * (outputs * cov**2 + 2 * cov * (d @ d.T))
            population = (pairs.sum() - np.trace(pairs)) * points / (points - 1)
            result["law_mu_L"].append(mu)
            result["law_eps_L"].append(np.sqrt(pairs.sum()) / mu)
            result["law_eps_pop"].append(np.sign(population) * np.sqrt(abs(population)) / mu)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
