"""The second call of every public verb with the same shapes compiles nothing and leaves nothing behind."""

import functools
import gc
import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest
from numba.core import event

import steerax as sx
from steerax import _compiled
from steerax.lifted.bounds import near_optimality
from steerax.lifted.bounds.generalisation import generalisation_bound
from steerax.models import conditional_entropy, entropy_rate

CHAIN = sx.models.random_hmm(jax.random.key(0), 3, 4)
PROCESS = sx.models.tom_quantum()
TOKENS = np.array([0, 1, 2, 3, 1, 0] * 5)
BATCH = sx.Sequences.from_arrays([TOKENS, TOKENS[:7]])
LINEAR = sx.LinearGaussianModel(
    [0.0, 0.0], np.eye(2), [[[0.9, 0.1], [0, 0.5]]], [[1.0, 0.3]], np.eye(2) * 0.5, [[1.0]]
)  # fmt: skip
GAPPY = np.array([1.0, 2.0, np.nan, 0.5, 0.3] * 4)
COMPLETE = np.nan_to_num(GAPPY)
GPT = sx.GPT(sx.GPTConfig(vocab_size=4, block_size=8, n_layer=1, n_head=1, n_embd=8), key=jax.random.key(0))
DEEP = sx.GPT(sx.GPTConfig(vocab_size=4, block_size=8, n_layer=3, n_head=1, n_embd=8), key=jax.random.key(0))
WINDOWS = sx.Sequences.from_arrays([TOKENS[:8], TOKENS[2:10]])
LONG = np.tile(TOKENS, 4)


def _generated(key, n):
    return jax.random.randint(key, (2, 9), 0, 4)


def _of_devices(data):
    """Verbs over devices, of which a test has one."""
    fitted = sx.fit(CHAIN, data, max_iterations=2, progress=False)
    return sx.filter(CHAIN, data).states, sx.smooth(CHAIN, data), sx.dual_filter(CHAIN, data), fitted


OF_CHAINS = {
    "filter": lambda: (sx.filter(CHAIN, TOKENS).filtered, sx.filter(CHAIN, BATCH).next_all()),
    "smooth": lambda: sx.smooth(CHAIN, TOKENS),
    "dual_filter": lambda: [
        sx.dual_filter(CHAIN, TOKENS, **options)
        for options in (
            {},
            {"initial": "prior"},
            {"initial": "stationary"},
            {"layers": 3, "keep": True},
            {"scheme": "doubling"},
        )
    ],
    "start": lambda: [sx.start(model, number) for model in (CHAIN, PROCESS, LINEAR) for number in (None, 3)],
    "step": lambda: [
        sx.step(CHAIN, sx.start(CHAIN), 1),
        sx.step(CHAIN, sx.start(CHAIN, 3), [0, -1, 2]),
        sx.step(PROCESS, sx.start(PROCESS), 1),
        sx.step(PROCESS, sx.start(PROCESS, 3), [0, -1, 2]),
        sx.step(LINEAR, sx.start(LINEAR), 0.5),
        sx.step(LINEAR, sx.start(LINEAR, 3), [0.5, np.nan, 1.0]),
    ],
    "explain": lambda: (sx.explain(CHAIN, TOKENS, "all"), sx.explain(CHAIN, BATCH)),
    "explain by every method": lambda: [
        sx.explain(model, TOKENS, method=method, orders=4 if method == "shapley" else None)
        for model in (CHAIN, PROCESS)
        for method in ("integrated", "news", "deletion", "shapley")
    ],
    "explain_norms": lambda: sx.explain_norms(CHAIN, TOKENS),
    "forecast": lambda: sx.forecast(CHAIN, BATCH, 3),
    "most_likely_states": lambda: sx.most_likely_states(CHAIN, BATCH),
    "score": lambda: sx.score(CHAIN, BATCH),
    "compare_predictors": lambda: sx.compare_predictors({"a": CHAIN, "b": sx.models.random_hmm(1, 2, 4)}, BATCH),
    "sample": lambda: (sx.sample(CHAIN, 0, 20), sx.sample(CHAIN, 0, 20, 3)),
    "sample_sequences": lambda: sx.sample_sequences(CHAIN, 0, 3, 20),
    "fit": lambda: (sx.fit(sx.HMM(2), BATCH, max_iterations=3), sx.fit(CHAIN, BATCH, max_iterations=3)),
    "sweep": lambda: sx.sweep(_of_devices, [BATCH.over()]),
    "select": lambda: sx.select([sx.HMM(1), sx.HMM(2)], BATCH, max_iterations=2),
    "fit_by_gradient": lambda: sx.fit_by_gradient(CHAIN, BATCH, 2),
    "fit_online": lambda: sx.fit_online(CHAIN, [BATCH, BATCH]),
    "represent": lambda: [
        sx.represent(sx.next_token_predictor(CHAIN, 1), TOKENS[:6], 4, samples=samples) for samples in (None, 32)
    ],
    "optimal_control": lambda: sx.optimal_control(CHAIN, 3, np.ones(3)),
    "entropies": lambda: (conditional_entropy(CHAIN, 4), entropy_rate(CHAIN, samples=4, length=32)),
    "operators": lambda: [
        sx.filter(PROCESS, TOKENS).next_all(),
        sx.filter(PROCESS, BATCH).predicted,
        *(
            sx.dual_filter(PROCESS, TOKENS, **options)
            for options in ({}, {"layers": 3, "keep": True}, {"scheme": "doubling"})
        ),
        *(sx.explain(PROCESS, TOKENS, queries) for queries in ("all", -1)),
        sx.forecast(PROCESS, BATCH, 3),
        sx.score(PROCESS, BATCH),
        sx.sample(PROCESS, 0, 20, 3),
        conditional_entropy(PROCESS, 4),
        entropy_rate(PROCESS, samples=4, length=32),
        sx.represent(sx.next_token_predictor(PROCESS, 1), TOKENS[:4], 4),
    ],
    "align_states": lambda: sx.align_states(CHAIN, CHAIN),
    "sample_tokens": lambda: sx.sample_tokens(GPT, np.array([1, 2]), 4, jax.random.key(0)),
    "score of a network": lambda: sx.score(GPT, WINDOWS),
    "train_gpt": lambda: [sx.train_gpt(GPT, data, 2, 0, batch_size=2) for data in (WINDOWS, LONG, _generated)],
}
OF_SERIES = {
    "filter of a series": lambda: sx.filter(LINEAR, GAPPY).filtered,
    "smooth of a series": lambda: sx.smooth(LINEAR, GAPPY),
    "dual_filter of a series": lambda: (sx.dual_filter(LINEAR, GAPPY), sx.dual_filter(LINEAR, COMPLETE, "all")),
    "solvers": lambda: [
        sx.dual_filter(LINEAR, COMPLETE, solver=solver())
        for solver in (sx.solvers.OpenLoop, sx.solvers.ClosedLoop, sx.solvers.Direct, sx.solvers.Picard)
    ],
    "explain of a series": lambda: [sx.explain(LINEAR, GAPPY, method=method) for method in ("integrated", "news")],
    "forecast of a series": lambda: sx.forecast(LINEAR, GAPPY, 3).interval(0.9),
    "recalibrate": lambda: sx.recalibrate(LINEAR, GAPPY),
    "sample of a series": lambda: sx.sample(LINEAR, 0, 20),
    "fit of a series": lambda: [
        sx.fit(sx.LinearGaussian(1, start=start), GAPPY, max_iterations=3)
        for start in ("stationary", "diffuse", "free")
    ],
    "score of a series": lambda: sx.score(LINEAR, [GAPPY, GAPPY[:9]]),
}
DATA = TARGETS = jnp.asarray(np.array(WINDOWS.values))
OF_DEPTH = {
    "analyse": lambda: sx.depth.analyse(GPT, WINDOWS, key=0, batches=2, sample=2, draws=2).to_dict(),
    "costates": lambda: sx.depth.costates(GPT, DATA, TARGETS),
    "ledger_by_source": lambda: sx.depth.ledger_by_source(GPT, sx.depth.costates(GPT, DATA, TARGETS), 0, 0),
    "stationarity": lambda: sx.depth.stationarity(GPT, DATA, 2),
    "flow_distance": lambda: sx.depth.flow_distance(GPT, DATA, TARGETS, substeps=(1, 2)),
    "importance": lambda: sx.depth.importance(GPT, DATA, TARGETS, jax.random.key(0), 2),
    "resample": lambda: [sx.depth.resample(DEEP, layers, WINDOWS).network for layers in (2, 6)],
    "prune": lambda: sx.depth.prune(GPT, GPT.n_parameters - 100, WINDOWS, jax.random.key(0)).network,
    "tune": lambda: [
        sx.depth.tune(GPT, data, 2, jax.random.key(0), batch_size=2, progress=False).losses
        for data in (LONG, WINDOWS, _generated)
    ],
    "mean_loss": lambda: sx.depth.mean_loss(GPT, WINDOWS),
    "loss_range": lambda: sx.depth.loss_range(GPT),
    "risk_bound": lambda: sx.depth.risk_bound("fixed", number=10, range_=2.0),
}
LIFTED = sx.lifted
LABELLED = LIFTED.Problem.create(LIFTED.tasks.all_strings(4), np.random.default_rng(0).integers(0, 2, 16))
certificate = functools.cache(lambda: LIFTED.solve(LIFTED.tasks.parity(3), 2))
EMBEDDING = LIFTED.classes.embed_levels(3, 2, 2)
FINITE = LIFTED.FiniteProblem(
    EMBEDDING,
    LIFTED.Distribution.embedded(EMBEDDING, LIFTED.tasks.all_strings(3), np.arange(8) % 2),
    tuple(LIFTED.classes.attention_stages(2, LIFTED.alphabet.hard_attention())),
    LIFTED.classes.threshold_readings(2),
)
OF_LIFTED = {
    "solve": lambda: [
        LIFTED.solve(LABELLED, 2, backend=backend, time_limit=limit).lower
        for backend, limit in (("numpy", None), ("numba", None), ("numba", 60.0))
    ],
    "check": lambda: [LIFTED.check(certificate(), level) for level in ("witness", "sample", "full", None)],
    "census": lambda: [LIFTED.census(3, depth).values for depth in (1, 2)],
    "solve_dynamic": lambda: LIFTED.solve_dynamic(FINITE).network(LIFTED.tasks.all_strings(3)),
    "input_dependent_value": lambda: LIFTED.input_dependent_value(FINITE),
    "bounds": lambda: [
        near_optimality.measure(near_optimality.Instance.random(), 2),
        generalisation_bound(10, 100).width.value,
    ],
}
# of the depth wing: files, records and what training calls
NUMBERS = sx.HiddenMarkovModel(
    [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], sx.emissions.Gaussian([[0.0], [2.0]], [[[1.0]], [[0.5]]])
)
LAGGED = sx.HiddenMarkovModel(
    [0.5, 0.5],
    [[0.9, 0.1], [0.2, 0.8]],
    sx.emissions.Autoregressive([[0.0], [2.0]], [[[[0.5]]], [[[0.1]]]], [[[1.0]], [[0.5]]]),
)
SEVERAL = sx.Sequences.from_arrays([GAPPY, GAPPY[:7]])
OF_NUMBERS = {
    "filter": lambda: (sx.filter(NUMBERS, GAPPY).next().interval(0.9), sx.filter(NUMBERS, SEVERAL).next().mean),
    "smooth": lambda: sx.smooth(NUMBERS, SEVERAL),
    "dual_filter": lambda: [
        sx.dual_filter(NUMBERS, GAPPY, **options) for options in ({}, {"layers": 3}, {"scheme": "doubling"})
    ],
    "explain": lambda: [sx.explain(NUMBERS, GAPPY, method=method) for method in ("integrated", "control", "news")],
    "forecast": lambda: (sx.forecast(NUMBERS, SEVERAL, 3).interval(), sx.forecast(LAGGED, COMPLETE, 3, key=0).mean),
    "most_likely_states": lambda: sx.most_likely_states(NUMBERS, SEVERAL),
    "score": lambda: sx.score(NUMBERS, SEVERAL),
    "sample": lambda: (sx.sample(NUMBERS, 0, 20), sx.sample(LAGGED, 0, 20)),
    "fit": lambda: [sx.fit(model, COMPLETE, max_iterations=3, progress=False) for model in (NUMBERS, LAGGED)],
    "fit_online": lambda: sx.fit_online(NUMBERS, [SEVERAL, SEVERAL]),
    "fit_by_gradient": lambda: sx.fit_by_gradient(NUMBERS, SEVERAL, 2),
    "step": lambda: (sx.step(NUMBERS, sx.start(NUMBERS), 1.0), sx.step(NUMBERS, sx.start(NUMBERS, 2), [1.0, np.nan])),
}
WITHOUT_A_SECOND_CALL = {"write_html", "telemetry", "Report", "Resampled", "GroupedGPT", "Pruned"}
# names that read or write files, or build something without computing
NOT_COMPUTING = {"read", "read_table", "load", "save", "load_gpt", "save_gpt", "support", "next_token_predictor"}


def test_the_table_below_is_the_public_one():
    verbs = {name for name in sx.__all__ if inspect.isroutine(getattr(sx, name))}
    assert verbs - NOT_COMPUTING <= {*OF_CHAINS, *OF_SERIES}
    assert set(sx.depth.__all__) - WITHOUT_A_SECOND_CALL == set(OF_DEPTH)
    assert {name for name in LIFTED.__all__ if inspect.isroutine(getattr(LIFTED, name))} - NOT_COMPUTING <= set(
        OF_LIFTED
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [OF_CHAINS, OF_SERIES, OF_NUMBERS, OF_DEPTH, OF_LIFTED],
    ids=["chains", "series", "numbers", "depth", "lifted"],
)
def test_a_second_call_compiles_nothing_and_leaves_nothing(table):
    compiled, wait = _heard(), lambda result: jax.block_until_ready(_arrays(result))
    again, left = {}, {}
    for name, verb in table.items():
        wait(verb())
        gc.collect()
        before, compiled[:] = len(jax.live_arrays()), []
        wait(verb())
        gc.collect()
        again[name], left[name] = len(compiled), len(jax.live_arrays()) - before
    assert not {name: count for name, count in again.items() if count}
    assert not {name: count for name, count in left.items() if count > 0}
    jax.jit(lambda x: x * 3 + len(table))(jnp.arange(7.0))
    numba.njit(lambda x: x * 3 + 1)(7.0)
    assert {"numba", "jax"} == set(compiled)  # the listeners do hear


def _heard():
    """A list that grows by one with every compilation by JAX or numba."""
    compiled = []
    listen = lambda name, *_, **__: compiled.append("jax") if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    event.register("numba:compile", _Listener(compiled))
    return compiled


class _Listener(event.Listener):
    def __init__(self, compiled):
        self.compiled = compiled

    def on_start(self, event):
        self.compiled.append("numba")

    def on_end(self, event):
        pass


def _arrays(result):
    return [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_networks_of_other_shapes_do_not_use_up_the_memory_maps(monkeypatch):
    """Linux allows a process 65 530 maps; twenty networks take 54 000, if nothing is let go."""
    monkeypatch.setattr(_compiled, "MOST_MAPS", 9_000)
    in_use = lambda: Path("/proc/self/maps").read_bytes().count(b"\n")
    jax.clear_caches()
    maps = []
    for number in range(10):
        config = sx.GPTConfig(5 + number, block_size=8, n_layer=1 + number % 4, n_head=2, n_embd=8 + 2 * number)
        gpt = sx.GPT(config, key=jax.random.key(number))
        data = np.random.default_rng(number).integers(0, 5, (4, 6 + number % 3))
        assert np.isfinite(sx.depth.analyse(gpt, data, key=0, batches=2, sample=2, draws=2).loss)
        maps.append(in_use())
    assert max(maps) < 9_000 + 6_000  # one network needs up to 3 500


@pytest.mark.slow
def test_verbs_let_go_of_functions_for_lengths_that_are_over(monkeypatch):
    monkeypatch.setattr(_compiled, "MOST_MAPS", 0)
    monkeypatch.setattr(_compiled, "_looked", -10.0)
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    jax.jit(lambda z: sx.filter(CHAIN, z).filtered)(TOKENS)
    assert not cleared  # never while tracing
    sx.filter(CHAIN, TOKENS)
    assert len(cleared) == 1
    monkeypatch.setattr(_compiled, "_looked", time.monotonic())
    _compiled.keep_few()
    assert len(cleared) == 1  # it looks once a second


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("used", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_process_forked_after_use_says_so(used):
    script = f"""
import os, warnings
import steerax as sx
warnings.simplefilter("ignore")
hmm = sx.models.casino() if {used} else None
if {used}:
    sx.filter(hmm, [0, 1]).predicted
child = os.fork()
if child == 0:
    try:
        sx.filter(sx.models.casino() if hmm is None else hmm, [0, 1]).predicted
    except sx.ConfigurationError as error:
        os._exit(3 if "forked after JAX had started" in str(error) else 4)
    os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == ("3" if used else "5"), done.stderr
