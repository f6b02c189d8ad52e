"""Do forecast intervals hold what they promise on real series?

Sunspots (order 9, fitted to 1700–1948, one-step intervals for 1949–2008) and the weekly CO₂ record with its 59 gaps
(increments removed by a seasonal line fit, order 3, fitted to the first 80 %). Share of later observations inside the
one-step intervals of nominal coverage .5, .8, .9, .95, all with the model fitted once.

    python -m benchmarks.linear_coverage [--quick]
"""

import argparse

import jax
import numpy as np

from .timing import machine, write

jax.config.update("jax_enable_x64", True)

LEVELS = (0.5, 0.8, 0.9, 0.95)


def sunspots() -> np.ndarray:
    import statsmodels.api as sm

    return np.asarray(sm.datasets.sunspots.load_pandas().data.SUNACTIVITY, float)


def co2(share: float) -> np.ndarray:
    """The record minus a quadratic and two yearly harmonics fitted to its first part."""
    import statsmodels.api as sm

    y = np.asarray(sm.datasets.co2.load_pandas().data.co2, float)
    t = np.arange(len(y)) / 52.1775
    waves = [f(2 * np.pi * k * t) for k in (1, 2) for f in (np.sin, np.cos)]
    a = np.stack([np.ones_like(t), t, t**2, *waves], axis=1)
    use = np.isfinite(y) & (np.arange(len(y)) < share * len(y))
    return y - a @ np.linalg.lstsq(a[use], y[use])[0]


def coverage(y: np.ndarray, split: int, order: int, iterations: int) -> dict:
    from jax.scipy.special import ndtri

    import steerax as sx

    fit = sx.fit_linear_gaussian(y[:split], 1, jax.random.key(0), order, max_iterations=iterations)
    run = sx.kalman_filter(fit.model, y)
    H, R = np.asarray(fit.model.observation), np.asarray(fit.model.observation_noise)
    sd = np.sqrt(np.einsum("pd,tde,qe->tpq", H, run.state_covariances[:-1], H) + R)[:, 0, 0]
    score = np.abs(np.asarray(run.innovations)[:, 0] / sd)[split:][np.isfinite(y[split:])]
    inside = {str(level): float((score <= float(ndtri(0.5 + level / 2))).mean()) for level in LEVELS}
    return {
        "observed": len(score), "coverage": inside, "log_likelihood": float(fit.log_likelihoods[-1]),
        "outcome": sx.RESULTS[fit.result] or "successful",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = {"sunspots": coverage(sunspots(), 249, 9, 20 if quick else 100)}
    weeks = co2(0.8)
    rows["co2"] = coverage(weeks, int(0.8 * len(weeks)), 3, 5 if quick else 40)
    for name, row in rows.items():
        print(
            name,
            row["observed"],
            "later observations;",
            {k: round(v, 3) for k, v in row["coverage"].items()},
            row["outcome"],
        )
    if not quick:
        write("linear_coverage", {"machine": machine(("statsmodels",)), "rows": rows})


if __name__ == "__main__":
    main()
