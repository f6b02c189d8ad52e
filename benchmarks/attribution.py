"""Which attribution says what Shapley values say, and finds the token that matters, at what cost?

Every method of `explain`, integrated evidence along another path, and two that no model is needed for (the last token, and a token at random), for one prediction, the
probability of the token that came next. On random models, on characters of Python's documentation under a learned model, and on
click-streams of a shop under a learned model (`ecom`, 600 users and 31 106 events that come with the package retentioneering; written
by a program of other people's, since real ones are not free). For each: correlation with exact Shapley values over all 2^T subsets of
seen tokens; the share of their absolute weight that has the same sign; 1 minus the relative L1 distance from them; what deleting the
largest token does to the prediction, as a share of what deleting the best one does;
the time of one prediction, and how it grows with the length of the string.

    uv run --with retentioneering==5.2.4 python -m benchmarks.attribution [--quick]
"""

import argparse
import collections
import csv
import functools
import gzip
import importlib.util
import pathlib
import time

import jax
import numpy as np

from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)

METHODS = ("integrated", "shapley, 32 orders", "news", "control", "deletion")
BARE = "integrated, bare likelihoods"
NO_MODEL = ("last token", "random token")


def attributions(hmm, z: np.ndarray, token: int) -> dict:
    """name → (terms `[T]`, what they leave of the prediction, seconds), exact Shapley values among them."""
    import steerax as sx

    found = {}
    for name in (*METHODS, "shapley"):
        method, orders = ("shapley", 32) if "orders" in name else (name, None)
        call = lambda m=method, n=orders: sx.explain(
            hmm, z, target=hmm.emission[:, token : token + 1], method=m, orders=n
        ).weights.block_until_ready()
        call()
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        e = sx.explain(hmm, z, target=hmm.emission[:, token : token + 1], method=method, orders=orders)
        found[name] = (np.asarray(e.weights)[0, :, 0], abs(float(e.remainder[0, 0])), seconds)
    total = (e.prediction - e.prior)[:, 0:1]
    other = bare(hmm, z, token, total)
    found[BARE] = (np.asarray(other)[0, :, 0], abs(float((total - other.sum(1))[0, 0])), 0.0)
    spot = np.random.default_rng(int(z.sum())).integers(len(z))
    for name, place in zip(NO_MODEL, (len(z) - 1, spot), strict=True):
        found[name] = (np.eye(len(z))[place], None, 0.0)
    return found


def bare(hmm, z: np.ndarray, token: int, total):
    """Integrated terms along the straight line from 1 to the likelihood as it is, not divided by its predictive probability."""
    from steerax.inference.attribution import Asked, integrated
    from steerax.inference.hmm.kernels.soft import soft_chain

    mu, A, C = hmm.arrays
    path = soft_chain(mu, A, C.T[z], jax.numpy.zeros(len(z)), False)
    asked = Asked(np.array([len(z)]), C[:, token : token + 1], np.ones(len(z), bool))
    return integrated(path, asked, total, False)[0]


def table(title: str, problems) -> list[dict]:
    rows: dict[str, dict[str, list]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for hmm, z, token in problems:
        found = attributions(hmm, z, token)
        exact, deleted = found["shapley"][0], np.abs(found["deletion"][0])
        size = np.abs(exact).sum()
        for name, (terms, left, seconds) in found.items():
            row = rows[name]
            spread = np.ptp(exact) > 1e-12 and np.ptp(terms) > 0
            row["correlation"].append(np.corrcoef(terms, exact)[0, 1] if spread else np.nan)
            row["sign"].append(np.abs(exact)[np.sign(terms) == np.sign(exact)].sum() / size)
            row["near"].append(1 - np.abs(terms - exact).sum() / size)
            row["top"].append(deleted[np.abs(terms).argmax()] / deleted.max())
            row["seconds"].append(seconds)
            row["left"].append(np.nan if left is None else left)
    out = []
    print(title)
    for name, row in rows.items():
        quantiles = np.nanquantile(row["correlation"], [0.05, 0.25, 0.5])
        bare = name in NO_MODEL
        record = {
            "problems": title,
            "method": name,
            **dict(
                zip(("correlation 5%", "correlation 25%", "correlation median"), map(float, quantiles), strict=True)
            ),
            "sign agreement": None if bare else float(np.mean(row["sign"])),
            "1 - relative L1 distance": None if bare else float(np.median(row["near"])),
            "effect of deleting the top token": float(np.mean(row["top"])),
            "standard error of that effect": float(np.std(row["top"]) / np.sqrt(len(row["top"]))),
            "ms": 1e3 * float(np.median(row["seconds"])),
            "left of the prediction": None if bare else float(np.max(row["left"])),
        }
        print("  ", *(f"{x:.3g}" if isinstance(x, float) else x for x in list(record.values())[1:]), flush=True)
        out.append(record)
    return out


def random_problems(number: int, T: int):
    import steerax as sx

    for i in range(number):
        hmm = sx.models.random_hmm(jax.random.key(i), 3, 3, concentration=0.7)
        yield hmm, np.asarray(hmm.sample(jax.random.key(1000 + i), T)[1]), i % 3


def text_problems(number: int, T: int):
    import steerax as sx
    from steerax.data.corpora import pydoc_text

    text = pydoc_text()[:60_000]
    vocabulary = sx.Vocabulary.collect(text)
    data = sx.Sequences.from_arrays([vocabulary.encode(list(text))], vocabulary).cut(100)
    model = sx.fit(sx.HMM(12), data, jax.random.key(0), max_iterations=40, pseudocounts=0.1).model
    yield from windows(model, [data.values.ravel()], number, T)


def click_problems(number: int, T: int):
    import steerax as sx

    found = importlib.util.find_spec("retentioneering")
    if found is None or found.origin is None:
        print("without click-streams: the package retentioneering is not there")
        return
    users = collections.defaultdict(list)
    with gzip.open(pathlib.Path(found.origin).parent / "datasets" / "ecom.csv.gz", "rt", encoding="utf-8") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: (row["user_id"], row["timestamp"])):
            users[row["user_id"]].append(row["event"])
    vocabulary = sx.Vocabulary.collect(event for events in users.values() for event in events)
    streams = [vocabulary.encode(events) for events in users.values()]
    data = sx.Sequences.from_arrays(streams[: len(streams) // 2], vocabulary)
    model = sx.fit(sx.HMM(12), data, jax.random.key(0), max_iterations=60, pseudocounts=0.1).model
    yield from windows(model, streams[len(streams) // 2 :], number, T)  # users whom the model has not seen


def windows(model, streams, number: int, T: int):
    """Windows of `T` tokens at random places, with the token that came next."""
    rng = np.random.default_rng(0)
    long = [stream for stream in streams if len(stream) > T]
    for _ in range(number):
        stream = long[rng.integers(len(long))]
        start = rng.integers(len(stream) - T)
        yield model, stream[start : start + T], int(stream[start + T])


def costs(lengths: tuple[int, ...]) -> list[dict]:
    """Milliseconds (the best of many runs) of one explanation of one probability, 12 states, by the length of the string."""
    import steerax as sx

    hmm, out = sx.models.random_hmm(jax.random.key(0), 12, 20), []
    for T in lengths:
        z = np.asarray(hmm.sample(jax.random.key(1), T)[1])
        methods: dict[str, dict] = {name: {"method": name} for name in METHODS if "orders" not in name}
        if T <= 100:
            methods["shapley, 32 orders"] = {"method": "shapley", "orders": 32}
        explained = functools.partial(sx.explain, hmm, z, target=hmm.emission[:, :1])
        call = lambda options, explained=explained: explained(**options).weights.block_until_ready()
        calls = {name: functools.partial(call, options) for name, options in methods.items()}
        found = time_together({"filter": lambda z=z: sx.filter(hmm, z).states.block_until_ready()} | calls)
        out.append({"length": T} | {name: timed["best"] for name, timed in found.items()})
        print(out[-1], flush=True)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few problems")
    quick = parser.parse_args().quick
    number = 10 if quick else 150
    rows = table("random models, 3 states, 3 tokens, T = 8", random_problems(number, 8))
    rows += table("characters of the Python documentation, 12 states, T = 10", text_problems(number, 10))
    rows += table("click-streams of a shop, 12 states, T = 10", click_problems(number, 10))
    found = {"rows": rows, "milliseconds": costs((10, 100) if quick else (10, 100, 1000)), **machine()}
    write("attribution_quick" if quick else "attribution", found)
