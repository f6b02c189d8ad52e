"""Do control weights say what Shapley values say, and at what cost?

Four attributions of one prediction to the past tokens: control weights (`explain`), news (`represent` under the model's
own law), leave-one-out (the prediction minus the one with that token missing), and exact Shapley values over all 2^T
subsets of seen tokens. On random models and on characters of Python's documentation under a learned model. For each: how
exactly the terms add up to the prediction minus their baseline, correlation with Shapley, how often the largest term is
another token, and the time of one prediction.

    python -m benchmarks.attribution [--quick]
"""

import argparse
import itertools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from .timing import machine, write

jax.config.update("jax_enable_x64", True)


def predictions(hmm, strings, token: int) -> np.ndarray:
    """`P(next = token)` after each string `[n T]`, −1 missing."""
    from steerax.inference.hmm.kernels.recursions import filter_checked

    return np.asarray(filter_checked(*hmm.arrays, jnp.asarray(strings.T))[0][-1] @ hmm.emission[:, token])


def shapley(hmm, z: np.ndarray, token: int) -> tuple[np.ndarray, float]:
    """Exact Shapley values of the tokens `z` `[T]`, unseen tokens missing, and the prediction without any."""
    T = len(z)
    seen = np.array(list(itertools.product([0, 1], repeat=T)), dtype=bool)
    value = predictions(hmm, np.where(seen, z, -1), token)
    size = seen.sum(1)
    weight = np.array([math.factorial(k) * math.factorial(T - k - 1) / math.factorial(T) for k in range(T)])
    place = np.arange(2**T)
    out = np.zeros(T)
    for i in range(T):
        without = ~seen[:, i]
        out[i] = np.sum(weight[size[without]] * (value[place[without] + 2 ** (T - 1 - i)] - value[without]))
    return out, float(value[0])


def attributions(hmm, z: np.ndarray, token: int) -> dict:
    """name → (terms, baseline or None if the terms do not claim to add up, seconds)."""
    import steerax as sx

    def by_control():
        e = sx.explain(hmm, z, target=hmm.emission[:, token : token + 1])
        return np.asarray(e.weights)[0, :, 0], float(e.prior[0, 0])

    def by_news():
        A = np.asarray(hmm.transition)
        states = np.asarray(sx.filter(hmm, z).predicted)
        powers = [np.asarray(hmm.emission)[:, token]]
        for _ in z:
            powers.append(A @ powers[-1])
        forecast = np.array([state @ power for state, power in zip(states, reversed(powers), strict=True)])
        return np.diff(forecast), float(forecast[0])

    def by_leaving_out():
        strings = np.where(np.eye(len(z), dtype=bool), -1, z)
        full, *without = predictions(hmm, np.concatenate([z[None], strings]), token)
        return full - np.array(without), None

    methods = {
        "control weights": by_control,
        "news": by_news,
        "leave-one-out": by_leaving_out,
        "Shapley": lambda: shapley(hmm, z, token),
    }
    found = {}
    for name, method in methods.items():
        method()
        start = time.perf_counter()
        terms, baseline = method()
        found[name] = (terms, baseline, time.perf_counter() - start)
    return found


def table(title: str, problems) -> list[dict]:
    rows: dict[str, dict[str, list]] = {}
    for hmm, z, token in problems:
        found = attributions(hmm, z, token)
        prediction = float(predictions(hmm, z[None], token)[0])
        reference = found["Shapley"][0]
        for name, (terms, baseline, seconds) in found.items():
            row = rows.setdefault(name, {"correlation": [], "another largest": [], "seconds": [], "additivity": []})
            row["correlation"].append(np.corrcoef(terms, reference)[0, 1] if np.ptp(reference) > 1e-12 else np.nan)
            row["another largest"].append(np.abs(terms).argmax() != np.abs(reference).argmax())
            row["seconds"].append(seconds)
            if baseline is not None:
                row["additivity"].append(abs(baseline + terms.sum() - prediction))
    out = []
    print(title)
    for name, row in rows.items():
        low, middle = np.nanquantile(row["correlation"], [0.1, 0.5])
        record = {
            "problems": title,
            "method": name,
            "correlation median": middle,
            "correlation 10%": low,
            "another largest token": float(np.mean(row["another largest"])),
            "ms": 1e3 * float(np.median(row["seconds"])),
            "additivity error": max(row["additivity"]) if row["additivity"] else None,
        }
        added = "not additive" if record["additivity error"] is None else f"adds up to {record['additivity error']:.0e}"
        print(
            f"  {name:16s} correlation {middle:.3f} (10%: {low:.3f})  other largest token "
            f"{record['another largest token']:.0%}  {record['ms']:8.2f} ms  {added}",
            flush=True,
        )
        out.append(record)
    return out


def random_problems(number: int, T: int):
    import steerax as sx

    for i in range(number):
        hmm = sx.models.random_hmm(jax.random.key(i), 3, 3, concentration=0.7)
        yield hmm, np.asarray(hmm.sample(jax.random.key(1000 + i), T)[1]), i % 3


def real_problems(number: int, T: int):
    import pydoc_data.topics

    import steerax as sx

    text = "".join(pydoc_data.topics.topics.values())[:40_000]
    vocabulary = sx.Vocabulary.collect(text)
    data = sx.Sequences.from_arrays([vocabulary.encode(list(text))], vocabulary).cut(100)
    fit = sx.fit(sx.HMM(12), data, jax.random.key(0), max_iterations=40, pseudocounts=0.1)
    codes = data.values.ravel()
    for start in np.random.default_rng(0).choice(len(codes) - T - 1, number, replace=False):
        yield fit.model, codes[start : start + T], int(codes[start + T])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few problems")
    quick = parser.parse_args().quick
    number = 10 if quick else 60
    rows = table("random models, 3 states, 3 tokens, T = 8", random_problems(number, 8))
    rows += table("characters of the Python documentation, T = 12", real_problems(number, 12))
    write("attribution_quick" if quick else "attribution", {"rows": rows, **machine()})
