"""Do forecast intervals hold what they promise on real series, and what helps where they do not?

One-step intervals of nominal coverage .5, .8, .9, .95 on observations after the part the model was fitted to once:
sunspots (order 9; fitted to 1700–1948, tried on 1949–2008; as they are, and their square roots) and the weekly CO₂ record
with its 59 gaps (order 3; fitted to the first 80 %, trend and yearly waves fitted before as a regression, or with the
model as inputs). `fixed`: the variances of the fit. `followed`: before every step all variances are multiplied by the
mean square of the last 50 standardised errors (`steerax.recalibrate`), which moves no forecast. `rms` is the
root-mean-square standardised error, 1 if variances are right; for n observations the share inside has a standard error
of √(c(1-c)/n) if errors are independent.

    python -m benchmarks.linear_coverage [--quick] [--picture FILE.png]
"""

import argparse

import jax
import numpy as np

from .timing import machine, write

jax.config.update("jax_enable_x64", True)

LEVELS = (0.5, 0.8, 0.9, 0.95)
WINDOW = 50


def sunspots() -> np.ndarray:
    import statsmodels.api as sm

    return np.asarray(sm.datasets.sunspots.load_pandas().data.SUNACTIVITY, float)


def co2() -> tuple[np.ndarray, np.ndarray]:
    """The record, and inputs: trend, its square, and two yearly harmonics."""
    import statsmodels.api as sm

    y = np.asarray(sm.datasets.co2.load_pandas().data.co2, float)
    t = np.arange(len(y)) / 52.1775
    waves = [f(2 * np.pi * k * t) for k in (1, 2) for f in (np.sin, np.cos)]
    return y, np.stack([t, t**2, *waves], axis=1)


def regressed(y: np.ndarray, w: np.ndarray, split: int) -> np.ndarray:
    """The record minus a line of the inputs fitted to its first part."""
    a = np.concatenate([w, np.ones((len(w), 1))], axis=1)
    use = np.isfinite(y) & (np.arange(len(y)) < split)
    return y - a @ np.linalg.lstsq(a[use], y[use])[0]


def coverage(y: np.ndarray, split: int, order: int, iterations: int, w: np.ndarray | None = None) -> dict:
    from jax.scipy.special import ndtri

    import steerax as sx
    from steerax.inference.linear.calibration import standardised_innovations

    inputs = None if w is None else w[:split]
    fit = sx.fit(sx.LinearGaussian(1, order=order, inputs=inputs), y[:split], max_iterations=iterations)
    rest = y if w is None else y - (w @ fit.input_weights.T)[:, 0]
    all_scores = np.asarray(standardised_innovations(fit.model, rest))[:, 0]
    seen = np.isfinite(all_scores)
    scores, later = all_scores[seen], np.flatnonzero(seen) >= split
    size = np.array([np.sqrt((scores[max(0, i - WINDOW) : i] ** 2).mean()) if i else 1.0 for i in range(len(scores))])
    share = lambda s: {str(c): float((np.abs(s) <= float(ndtri(0.5 + c / 2))).mean()) for c in LEVELS}
    return {
        "observed": int(later.sum()), "fitted": share(scores[~later]), "fixed": share(scores[later]),
        "followed": share((scores / size)[later]), "rms": float(np.sqrt((scores[later] ** 2).mean())),
        "log_likelihood": float(fit.log_likelihoods[-1]),
        "outcome": sx.RESULTS[fit.result] or "successful",
    }  # fmt: skip


def picture(place: str) -> None:
    """The last sixty years of sunspots forecast from 1948, ten years ahead at a time, with 90 % intervals."""
    import matplotlib.pyplot as plt

    import steerax as sx

    y, split, steps = np.sqrt(sunspots()), 249, 10
    fit = sx.fit(sx.LinearGaussian(1, order=9), y[:split])
    years = 1700 + np.arange(len(y))
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot(years[200:], y[200:] ** 2, ".", color="0.25", label="observed")
    for start in range(split, len(y), steps):
        ahead = sx.forecast(sx.recalibrate(fit.model, y[:start]), y[:start], min(steps, len(y) - start))
        low, high = np.maximum(np.asarray(ahead.interval(0.9))[:, 0].T, 0.0) ** 2
        when, first = years[start : start + steps], start == split
        axes.fill_between(when, low, high, color="C0", alpha=0.25, lw=0, label="90 % interval" if first else None)
        axes.plot(when, np.asarray(ahead.mean)[:, 0] ** 2, color="C0", label="forecast" if first else None)
    axes.set(xlabel="year", ylabel="sunspot number", xlim=(years[200], years[-1]), ylim=(0, None))
    axes.legend(frameon=False, ncols=3, loc="upper left")
    figure.savefig(place, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--picture", help="draw forecasts of the sunspots to this file instead")
    options = parser.parse_args()
    if options.picture:
        picture(options.picture)
        return
    iterations, spots, (weeks, w) = 20 if options.quick else 400, sunspots(), co2()
    split = int(0.8 * len(weeks))
    rows = {
        "sunspots": coverage(spots, 249, 9, iterations),
        "sunspots, square roots": coverage(np.sqrt(spots), 249, 9, iterations),
        "co2, regressed before": coverage(regressed(weeks, w, split), split, 3, iterations),
        "co2, with inputs": coverage(weeks, split, 3, iterations, w),
    }
    for name, row in rows.items():
        print(f"{name}: {row['observed']} later observations, rms {row['rms']:.2f}, {row['outcome']}")
        for kind in ("fitted", "fixed", "followed"):
            print(f"    {kind:9s}", {k: round(v, 3) for k, v in row[kind].items()})
    if not options.quick:
        write("linear_coverage", {"machine": machine(("statsmodels",)), "rows": rows})


if __name__ == "__main__":
    main()
