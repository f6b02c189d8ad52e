"""`score`, `fit`, `select` and `represent` on many small random models, against all paths of their states in extended
precision: `score` on 2 000 of either precision, `select` on 150 (300 fits) and `represent` on 500; with `-m nightly`
2 000 and 100 000 of each and precision.

They work on the host, so every model is a call of its own. Models are those of `test_fuzz.py`; sequences have gaps,
different lengths and, where a verb steps over them, impossible tokens.
"""

import itertools

import numpy as np
import pytest
from path_oracles import WIDE, Paths, random_arrays

import steerax as sx

CHUNK, MANY = 2_000, 100_000
B, T, V = 3, 5, 3


def numbers(fast, *fast_types):
    """So many models of these precisions at once, `CHUNK` and `MANY` of both in the nightly tests."""
    cases = [pytest.param(dtype, fast) for dtype in fast_types]
    for dtype in (np.float32, np.float64):
        if not (fast == CHUNK and dtype in fast_types):
            cases.append(pytest.param(dtype, CHUNK, marks=(pytest.mark.nightly, pytest.mark.timeout(2_000))))
        cases.append(pytest.param(dtype, MANY, marks=(pytest.mark.nightly, pytest.mark.timeout(20_000))))
    return pytest.mark.parametrize(("dtype", "number"), cases)


def parts(verb, number, dtype):
    """`(seed, generator, models)` of every part of so many models."""
    for seed in range(-(-number // CHUNK)):
        yield seed, np.random.default_rng([seed, verb, dtype().itemsize]), min(number, CHUNK)


def rooms(dtype):
    """What rounding may do, relatively, in three sequences of five tokens."""
    return 3e-5 if dtype == np.float32 else 1e-12


def sequences(rng, number):
    """Tokens `[N B T]`, −1 where missing or after the end, and lengths `[N B]`."""
    lengths = rng.integers(1, T + 1, (number, B))
    z = np.where(np.arange(T) < lengths[:, :, None], rng.integers(-1, V, (number, B, T)), -1)
    z[:, 0, 0] = np.maximum(z[:, 0, 0], 0)
    return z, lengths


def models_of(arrays):
    return [sx.HiddenMarkovModel(*(a[n] for a in arrays)) for n in range(len(arrays[0]))]


def data_of(z, lengths):
    return [sx.Sequences(*one) for one in zip(z, lengths, strict=True)]


# ---- score --------------------------------------------------------------------------------------------------------------


def mean_and_error(log_q, scored):
    """Nats per token, and the standard error of a ratio of two totals over independent sequences, `[N]` each."""
    losses, tokens = -log_q.sum(-1), scored.sum(-1).astype(WIDE)
    mean = losses.sum(-1) / tokens.sum(-1)
    with np.errstate(invalid="ignore"):
        residual = losses - mean[:, None] * tokens
        return mean, np.sqrt((residual**2).sum(-1) * B / (B - 1)) / tokens.sum(-1)


@numbers(CHUNK, np.float32, np.float64)
def test_scores_are_those_of_all_paths(dtype, number):
    for _, rng, n_models in parts(1, number, dtype):
        arrays, (z, lengths) = random_arrays(rng, n_models, 3, V, dtype), sequences(rng, n_models)
        exact = Paths(arrays, z, lengths)
        found = [
            sx.score(m, d, on_impossible="skip") for m, d in zip(models_of(arrays), data_of(z, lengths), strict=True)
        ]
        np.testing.assert_array_equal([f.scored for f in found], exact.scored)
        room, right = rooms(dtype), exact.log_q.astype(float)
        np.testing.assert_allclose([f.log_likelihoods for f in found], right, rtol=room, atol=room)
        mean, error = (a.astype(float) for a in mean_and_error(exact.log_q, exact.scored))
        np.testing.assert_allclose([f.cross_entropy for f in found], mean, rtol=room, atol=room)
        off = np.abs([f.standard_error for f in found] - error)[np.isfinite(mean)]
        assert (off <= 20 * room * (1 + mean[np.isfinite(mean)])).all()
        assert np.isnan([f.standard_error for f in found])[~np.isfinite(mean)].all()


# ---- fit and select -----------------------------------------------------------------------------------------------------


def after_one_step(arrays, z, lengths, pseudocounts):
    """The arrays `[N …]` after one iteration, counts of their rows, and the objective before it `[N]`."""
    exact = Paths(arrays, z, lengths)
    new, totals, value = [], [], exact.log_q.sum((1, 2))
    for counts, before, more in zip(exact.expected_counts(), exact.arrays, pseudocounts, strict=True):
        more = more.reshape(-1, *(1,) * (before.ndim - 1))
        counts = counts + np.where(before > 0, more, 0)
        total = counts.sum(-1, keepdims=True)
        new.append(np.where(total > 0, counts / np.where(total > 0, total, 1), before))
        totals.append(total[..., 0])
        with np.errstate(divide="ignore"):
            value = value + (more * np.where(before > 0, np.log(before), 0)).reshape(len(before), -1).sum(-1)
    return new, totals, value


def learnable(rng, n_models, dtype):
    """Arrays of models of two and of three states, and sequences without the tokens that either calls impossible; those
    that are left without a token are drawn again."""
    two = [random_arrays(rng, n_models * 5 // 4, d, V, dtype) for d in (2, 3)]
    z, lengths = sequences(rng, n_models * 5 // 4)
    for arrays in [*two, *two]:  # what one forbids, the other may allow afterwards
        z = np.where(np.isneginf(Paths(arrays, z, lengths).log_q), -1, z)
    kept = np.flatnonzero((z >= 0).any((1, 2)))[:n_models]
    return [tuple(a[kept] for a in arrays) for arrays in two], z[kept], lengths[kept]


def check_step(fits, arrays, z, lengths, pseudocounts, dtype):
    """The criteria `[N]` by name after one step of EM from `arrays`, computed again from the models that `fits` hold."""
    room = rooms(dtype)
    new, totals, objective = after_one_step(arrays, z, lengths, pseudocounts)
    reached = tuple(np.stack(a) for a in zip(*(f.model.arrays for f in fits), strict=True))
    for part, right, total in zip(reached, new, totals, strict=True):
        used = total > np.sqrt(np.finfo(dtype).tiny)  # as `fit` says
        np.testing.assert_allclose(part[used], right[used].astype(float), rtol=room, atol=room)
    again = Paths(reached, z, lengths)
    value, n = again.log_q.sum((1, 2)), again.scored.sum((1, 2))
    np.testing.assert_allclose([f.objective[0] for f in fits], objective.astype(float), rtol=room, atol=50 * room)
    np.testing.assert_allclose([f.log_likelihood for f in fits], value.astype(float), rtol=room, atol=50 * room)
    d = arrays[0].shape[1]
    free = (d - 1) + d * (d - 1) + d * (V - 1)
    return reached, {"aic": 2 * free - 2 * value, "bic": free * np.log(n.astype(WIDE)) - 2 * value}


@pytest.mark.slow
@numbers(150, np.float64)
def test_one_step_of_em_has_the_counts_of_all_paths_and_the_best_of_two_is_selected(dtype, number):
    """Every case is two fits and the choice between them."""
    for _, rng, n_models in parts(2, number, dtype):
        (two, z, lengths), (held, ends) = learnable(rng, n_models, dtype), sequences(rng, n_models)
        pseudocounts = rng.choice([0.0, 0.0, 0.5, 2.0], (3, n_models))
        criteria = rng.choice(["aic", "bic", "held_out"], n_models)
        chosen = []
        for n, (data, test) in enumerate(zip(data_of(z, lengths), data_of(held, ends), strict=True)):
            kinds = [sx.HiddenMarkovModel(*(a[n] for a in arrays)) for arrays in two]
            options = {"pseudocounts": sx.Pseudocounts(*map(float, pseudocounts[:, n])), "max_iterations": 1}
            chosen.append(sx.select(kinds, data, str(criteria[n]), test, tolerance=0.0, progress=False, **options))
        values = []
        for which, arrays in enumerate(two):
            fits = [selection.candidates[which].fitted for selection in chosen]
            reached, value = check_step(fits, arrays, z, lengths, pseudocounts, dtype)
            on_held_out = Paths(reached, held, ends)
            value["held_out"] = mean_and_error(on_held_out.log_q, on_held_out.scored)[0]
            values.append(np.choose([list(value).index(c) for c in criteria], list(value.values())))
            found = [s.candidates[which].value(str(c)) for s, c in zip(chosen, criteria, strict=True)]
            room = 50 * rooms(dtype)
            np.testing.assert_allclose(found, values[-1].astype(float), rtol=room, atol=room)
        one, other = values
        with np.errstate(invalid="ignore"):  # two that are infinite
            clear = np.abs(one - other) > 100 * rooms(dtype) * (1 + np.abs(np.minimum(one, other)))
        assert clear.mean() > 0.7
        best = np.array([selection.best is selection.candidates[1] for selection in chosen])
        np.testing.assert_array_equal(best[clear], (other < one)[clear])


# ---- represent ----------------------------------------------------------------------------------------------------------

LENGTH = 3
STRINGS = np.array(list(itertools.product(range(V), repeat=LENGTH)))


def laws_of(arrays, strings, uniform):
    """The distribution of every token after every prefix of `[N n T]` under a process, `[N n T V]`, or where `uniform`
    `[N]` that of even chances among the tokens it admits."""
    laws = np.zeros((*strings.shape, V), WIDE)
    for t, v in itertools.product(range(LENGTH), range(V)):
        asked = strings[:, :, : t + 1].copy()
        asked[:, :, t] = v
        laws[:, :, t, v] = np.exp(Paths(arrays, asked).log_q[:, :, t])
    even = (laws > 0) / (laws > 0).sum(-1, keepdims=True)
    return np.where(uniform[:, None, None, None], even, laws)


def represented(last, laws, z):
    """Values `[N T+1]`, weights `[N T V-1]` along `z` by averaging `last` `[N strings]` backward over all strings."""
    N = len(z)
    S, values = last, np.zeros((N, LENGTH + 1), WIDE)
    weights, models = np.zeros((N, LENGTH, V - 1), WIDE), np.arange(N)
    seen = z >= 0
    where = lambda t: sum((np.maximum(z[:, s], 0) * V ** (t - 1 - s) for s in range(t)), np.zeros(N, int))
    values[:, LENGTH] = S[models, where(LENGTH)]
    for t in reversed(range(LENGTH)):
        law = laws[:, :: V ** (LENGTH - t), t]  # of the first string with each prefix
        children = S.reshape(N, V**t, V)
        S = np.where(seen[:, t, None], (law * children).sum(-1), children[:, :, 0])
        values[:, t] = S[models, where(t)]
        here = (models, where(t))
        deviation = np.where((law[here] > 0) & seen[:, t, None], children[here] - values[:, t, None], 0)
        weights[:, t] = deviation[:, 1:]
    return values, weights


def number_of(strings):
    """The place of a string in a table of all of them, `[… T]` → `[…]`."""
    return (strings + 1) @ (V + 1) ** np.arange(LENGTH)


def reader_of(table):
    """A predictor that no model makes: any number for any string."""
    return lambda strings: table[number_of(strings)]


@numbers(500, np.float64)
def test_representations_are_means_over_all_strings(dtype, number):
    """Of a model, by merging beliefs, and of any numbers, by listing strings, under every kind of reference."""
    for seed, rng, n_models in parts(3, number, dtype):
        own, other = random_arrays(rng, n_models, 3, V, dtype), random_arrays(rng, n_models, 2, V, dtype)
        kinds = rng.choice(["uniform", "support", "process"], n_models)
        z = rng.integers(-1, V, (n_models, LENGTH))
        z = np.where((kinds != "uniform")[:, None] & np.isneginf(Paths(other, z[:, None]).log_q[:, 0]), -1, z)
        strings = np.where((z >= 0)[:, None], STRINGS, -1)
        laws = laws_of(other, strings, kinds == "support")
        laws[kinds == "uniform"] = WIDE(1) / V
        token, merged = rng.integers(V, size=n_models), rng.random(n_models) < 0.5
        table = rng.normal(size=(n_models, (V + 1) ** LENGTH))
        last = np.take_along_axis(Paths(own, strings).next_token(), token[:, None, None], 2)[:, :, 0]
        last = np.where(merged[:, None], last, np.take_along_axis(table, number_of(strings), 1))
        values, weights = represented(last, laws, z)
        room = 1e-6 if dtype == np.float32 else 1e-10
        for n, (model, process) in enumerate(zip(models_of(own), models_of(other), strict=True)):
            given = {"uniform": "uniform", "support": sx.support(process), "process": process}[str(kinds[n])]
            predictor = sx.next_token_predictor(model, int(token[n])) if merged[n] else reader_of(table[n])
            found = sx.represent(predictor, z[n], V, given, weights=kinds[n] != "process")
            assert found.method == ("merged beliefs" if merged[n] else "enumeration")
            pairs = [(found.values, values[n]), (found.contributions, np.diff(values[n])), (found.weights, weights[n])]
            for numbers, right in pairs[: 2 if found.weights is None else 3]:
                np.testing.assert_allclose(
                    numbers, right.astype(float), rtol=0, atol=room, err_msg=f"seed {seed}, model {n}"
                )
