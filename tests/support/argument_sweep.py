"""Every number that a public function of Python takes, tried out of its bounds: prints a JSON list of faults and of what was
accepted. Run as users do, without the type checks of the tests."""

import inspect
import json
import math
import sys
import typing

import jax
import numpy as np

import steerax as sx
from steerax import beliefs, lifted, models
from steerax.models import conditional_entropy, entropy_rate

CHAIN = sx.models.random_hmm(jax.random.key(0), 3, 4)
TOKENS = np.array([0, 1, 2, 3, 1, 0] * 3)
DATA = sx.Sequences.from_arrays([TOKENS, TOKENS[:7]])
LINEAR = sx.LinearGaussianModel([0.0], np.eye(1), [[[0.5]]], [[1.0]], [[0.5]], [[1.0]])
SERIES = np.array([1.0, 2.0, 0.5, 0.3] * 4)
GPT = sx.GPT(sx.GPTConfig(vocab_size=4, block_size=8, n_layer=2, n_head=2, n_embd=8), key=jax.random.key(0))
WINDOWS = sx.Sequences.from_arrays([TOKENS[:8], TOKENS[2:10]])
ROWS = np.array(WINDOWS.values)
STRINGS = np.random.default_rng(0).integers(0, 4, (8, 4))
KEY = jax.random.key(0)
QUICK = {"max_iterations": 2, "restarts": 1, "screening": 1, "progress": False}

# function, positional arguments, keyword arguments of a quick call
CALLS = {
    "filter": (sx.filter, (CHAIN, TOKENS), {}),
    "dual_filter": (sx.dual_filter, (CHAIN, TOKENS), {"layers": 2}),
    "explain": (sx.explain, (CHAIN, TOKENS), {"queries": -1}),
    "explain by sampling": (sx.explain, (CHAIN, TOKENS), {"method": "shapley", "orders": 4}),
    "explain_norms": (sx.explain_norms, (CHAIN, TOKENS), {}),
    "forecast": (sx.forecast, (CHAIN, TOKENS), {"steps": 2}),
    "forecast of a series": (sx.forecast, (LINEAR, SERIES), {"steps": 2}),
    "interval": (sx.forecast(LINEAR, SERIES, 2).interval, (), {"coverage": 0.9}),
    "interval of tokens": (sx.forecast(CHAIN, TOKENS, 2).interval, (), {"coverage": 0.9}),
    "sample": (sx.sample, (CHAIN, 0), {"length": 3, "number": 2}),
    "sample_sequences": (sx.sample_sequences, (CHAIN, 0), {"number": 2, "length": 3}),
    "HMM": (lambda **k: sx.fit(sx.HMM(**k), DATA, **QUICK), (), {"n_states": 2, "order": 1}),
    "LinearGaussian": (
        lambda **k: sx.fit(sx.LinearGaussian(**k), SERIES, max_iterations=1, progress=False), (),
        {"n_states": 1, "order": 1}),
    "fit": (
        sx.fit, (sx.HMM(2), DATA), {**QUICK, "tolerance": 1e-3, "pseudocounts": 0.1}),
    "fit of a series": (sx.fit, (sx.LinearGaussian(1), SERIES), {"max_iterations": 1, "tolerance": 1e-3}),
    "fit_by_gradient": (sx.fit_by_gradient, (CHAIN, DATA), {"steps": 1}),
    "fit_online": (sx.fit_online, (CHAIN, [DATA, DATA]), {}),
    "represent": (sx.represent, (sx.next_token_predictor(CHAIN, 1), TOKENS[:4], 4), {"samples": 32}),
    "optimal_control": (sx.optimal_control, (CHAIN,), {"length": 3, "target": np.ones(3)}),
    "conditional_entropy": (conditional_entropy, (CHAIN,), {"length": 3}),
    "entropy_rate": (entropy_rate, (CHAIN,), {"samples": 4, "length": 8}),
    "sample_tokens": (
        sx.sample_tokens, (GPT, np.array([1, 2])), {"number": 2, "key": KEY, "temperature": 1.0, "top_k": 2, "samples": 1}),
    "train_gpt": (
        sx.train_gpt, (GPT, WINDOWS), {
            "steps": 1, "key": 0, "batch_size": 1, "learning_rate": 1e-3, "accumulate": 1, "every": 1, "save_every": 1,
            "patience": 1, "progress": False}),
    "GPTConfig": (
        lambda **k: sx.GPT(sx.GPTConfig(**k), key=KEY), (),
        {"vocab_size": 4, "block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 8, "dropout": 0.0}),
    "analyse": (sx.depth.analyse, (GPT, WINDOWS), {"key": 0, "batches": 2, "sample": 2, "draws": 1, "progress": False}),
    "stationarity": (sx.depth.stationarity, (GPT, ROWS), {"batches": 2}),
    "importance": (sx.depth.importance, (GPT, ROWS, ROWS, KEY), {"draws": 1}),
    "resample": (sx.depth.resample, (GPT,), {"layers": 4}),
    "prune": (sx.depth.prune, (GPT,), {"parameters": GPT.n_parameters - 50, "data": WINDOWS, "key": KEY, "draws": 1, "rounds": 1}),
    "tune": (
        sx.depth.tune, (GPT, WINDOWS), {
            "steps": 1, "key": KEY, "learning_rate": 1e-3, "weight_decay": 0.1, "batch_size": 1, "progress": False}),
    "solve": (lifted.solve, (lifted.tasks.parity(2),), {"depth": 1, "time_limit": 5.0, "memory_limit": 10**9, "devices": 1, "seed": 0}),
    "check": (lifted.check, (lifted.solve(lifted.tasks.parity(2), 1), "sample"), {"samples": 4}),
    "parity": (lifted.tasks.parity, (), {"n": 2}),
    "solver": (
        lambda **k: sx.dual_filter(LINEAR, SERIES, solver=sx.solvers.ClosedLoop(**k)), (),
        {"lags": 2, "tolerance": 1e-6, "max_steps": 5}),
    "recalibrate": (sx.recalibrate, (LINEAR, SERIES), {"window": 5}),
    "risk_bound": (sx.depth.risk_bound, ("fixed",), {"number": 10, "range_": 2.0, "delta": 0.05}),
    "flow_distance": (sx.depth.flow_distance, (GPT, ROWS, ROWS), {"substeps": (1, 2), "tolerance": 0.1}),
    "census": (lifted.census, (), {"n": 2, "depth": 1, "devices": 1}),
    "random_hmm": (models.random_hmm, (0,), {"n_states": 2, "n_tokens": 2, "concentration": 1.0}),
    "random_order_k": (models.random_order_k, (0,), {"n_states": 2, "n_tokens": 2, "order": 2, "concentration": 1.0}),
    "left_right": (models.left_right, (), {"n_states": 2, "n_tokens": 2, "stay": 0.5, "accuracy": 0.5}),
    "mess3": (models.mess3, (), {"x": 0.05, "alpha": 0.85}),
    "wiener": (beliefs.wiener, (CHAIN,), {"length": 3, "heads": 1, "key": 0}),
    "mixed_states": (beliefs.mixed_states, (CHAIN,), {"depth": 1, "max_beliefs": 9, "tolerance": 1e-9}),
    "probe": (beliefs.probe, (np.ones((1, 8, 4, 2)), CHAIN, STRINGS), {"cutoff": 1e-4, "key": 0}),
    "swap": (beliefs.swap, (GPT, CHAIN, STRINGS, STRINGS[::-1]), {"layer": 1, "steps": 1, "key": 0}),
    "attention_report": (beliefs.attention_report, (GPT, CHAIN, STRINGS), {"key": 0}),
    "extract": (
        beliefs.extract, (CHAIN, np.tile(STRINGS, (2, 1))), {
            "tolerance": 1e-3, "max_states": 1, "histories": 8, "iterations": 2, "key": 0}),
    "two_cycle": (models.two_cycle, (), {"long_length": 8, "short_zeros": 4, "p": 0.5}),
    "mixed_with_uniform": (models.mixed_with_uniform, (CHAIN,), {"transition": 0.1, "emission": 0.1}),
    "load_gpt": (sx.load_gpt, ("nowhere",), {"n_head": 2, "vocab_size": 3}),
    "cut": (DATA.cut, (), {"length": 3}),
    "split": (DATA.split, (), {"fraction": 0.5, "seed": 0}),
}  # fmt: skip
BAD = (math.nan, math.inf, -math.inf, -1, 0, 2**63, 1.5, "2")


def _numbers(name):
    """(argument, value) of every number that a call is given here or takes by itself."""
    function, _, given = CALLS[name]
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    for argument, parameter in signature.parameters.items():
        kinds = [*typing.get_args(parameter.annotation), parameter.annotation]
        value = given.get(argument, parameter.default)
        said = argument in given or int in kinds or float in kinds
        if said and isinstance(value, int | float | None) and not isinstance(value, bool):
            yield argument
    yield from (
        a
        for a in given
        if a not in signature.parameters and isinstance(given[a], int | float) and not isinstance(given[a], bool)
    )


def _cases():
    for name in CALLS:
        for argument in dict.fromkeys(_numbers(name)):
            yield name, argument


def main():
    tried, accepted, faults = [], [], []
    for name, argument in _cases():
        function, positional, given = CALLS[name]
        for value in BAD:
            case = [name, argument, repr(value)]
            tried.append(case)
            try:
                function(*positional, **given | {argument: value})
                accepted.append(case)
            except sx.SteeraxError as error:
                if len(str(error)) > 300 or "\n" in str(error):
                    faults.append([*case, str(error)])
            except Exception as error:
                faults.append([*case, repr(error)[:200]])
    json.dump({"tried": tried, "accepted": accepted, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
