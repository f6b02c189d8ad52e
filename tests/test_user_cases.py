"""What users of other libraries tripped over: each case does what they would, and asserts the right answer."""

import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import steerax as sx

NILE = [1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140,
        1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969]  # fmt: skip


def test_01_the_mask_of_an_array_marks_gaps():
    model = sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.5]], [[1.0]])
    y = np.ma.masked_array([1.0, 2.0, 50.0, 1.0, 0.5], mask=[0, 0, 1, 0, 0])
    # by hand: the Gaussian vector of the four numbers that are seen
    seen, times = y.compressed(), np.flatnonzero(~y.mask)
    variance = [1.0]
    for _ in range(4):
        variance.append(0.81 * variance[-1] + 0.5)
    S = np.array([[0.9 ** abs(s - t) * variance[min(s, t)] + (s == t) for s in times] for t in times])
    right = -0.5 * (seen @ np.linalg.solve(S, seen) + np.linalg.slogdet(2 * np.pi * S)[1])
    np.testing.assert_allclose(sx.filter(model, y).log_likelihood, right, rtol=1e-12)
    tokens = sx.Sequences.from_arrays([np.ma.masked_array([0, 1, 1, 0], mask=[0, 1, 0, 0])])
    assert (tokens.total, tokens.n_observed) == (4, 3)


def test_02_na_of_r_is_a_gap_and_it_is_said(tmp_path):
    file = tmp_path / "na.csv"
    gap = lambda i, value: "NA" if i % 7 == 3 else value
    file.write_text("s,y\n" + "".join(f"{gap(i, 'abc'[i % 3])},{gap(i, i)}\n" for i in range(60)))
    missing = sum(i % 7 == 3 for i in range(60))
    tokens, numbers = sx.read(file, tokens="s"), sx.read(file, values=["y"])
    assert tokens.vocabulary.symbols == ("a", "b", "c")
    for data in (tokens, numbers):
        assert data.total - data.n_observed == missing
        assert "'NA' read as missing" in data.source
    np.testing.assert_array_equal(numbers[0][:, 0], [np.nan if i % 7 == 3 else i for i in range(60)])
    assert sx.read(file, tokens="s", missing=[]).vocabulary.symbols == ("NA", "a", "b", "c")


def test_04_two_columns_of_one_name_are_refused(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,id,token\n" + "".join(f"{i // 10},{i % 2},{'ab'[i % 2]}\n" for i in range(60)))
    with pytest.raises(sx.DataError, match="two columns are called 'id'"):
        sx.read(file, sequence="id")
    file.write_text("a,a,label\n0,1,1\n1,0,0\n0,0,1\n")
    with pytest.raises(sx.DataError, match="two columns are called 'a'"):
        sx.lifted.read_table(file)


@pytest.mark.parametrize(
    ("text", "encoding", "said", "numbers"),
    [
        ("d;y\n1;2,5\n2;3,5\n", "utf-8", ("';'", "decimal commas"), [2.5, 3.5]),
        ("sep=;\nd;y\n1;2,5\n", "utf-8", ("decimal commas",), [2.5]),
        ("d\ty\n1\t2,5\n", "utf-16", (r"'\t'", "UTF-16", "decimal commas"), [2.5]),
        ("# log\nd,y\n1,2\n", "utf-8", ("1 line before the header skipped",), [2.0]),
        ("\n\nd,y\n1,2\n", "utf-8", (), [2.0]),
    ],
)
def test_06_tables_of_excel_are_read_and_what_was_found_out_is_said(tmp_path, text, encoding, said, numbers):
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode(encoding))
    data = sx.read(file, values=["y"])
    np.testing.assert_array_equal(data[0][:, 0], numbers)
    for words in said:
        assert words in data.source


def test_06_a_comma_that_has_two_senses_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('d,y\n1,"1,234"\n')
    with pytest.raises(sx.DataError, match=r"decimal=\",\"; if it separates thousands, remove it"):
        sx.read(tmp_path / "t.csv", values=["y"])
    assert sx.read(tmp_path / "t.csv", values=["y"], decimal=",")[0][0, 0] == 1.234


@pytest.mark.slow
def test_07_a_constant_series_goes_on():
    fitted = sx.fit(sx.LinearGaussian(1), np.full(40, 7.0), 0, progress=False)
    assert np.isfinite(fitted.log_likelihoods).all()
    np.testing.assert_allclose(sx.forecast(fitted.model, np.full(40, 7.0), 2).mean, 7.0, rtol=1e-6)
    assert fitted.result == sx.RESULTS.noise_free


def test_09_a_channel_that_is_never_observed_is_refused():
    both = np.column_stack([NILE, np.full(len(NILE), np.nan)])
    with pytest.raises(sx.DataError, match="Channel 1 has no observed number"):
        sx.fit(sx.LinearGaussian(1), both, 0, progress=False)


def test_10_a_start_with_zeros_moves_and_keeps_its_zeros():
    start = sx.HiddenMarkovModel(
        [1.0, 0, 0],
        [[0.9, 0.1, 0], [0, 0.9, 0.1], [0, 0, 1]],
        [[0.68, 0.23, 0.09], [0.23, 0.68, 0.09], [0.1, 0.1, 0.8]],
    )
    data = sx.sample_sequences(start, jax.random.key(0), 30, 25)
    for pseudocounts in (0.0, 1e-9, 0.1):
        fitted = sx.fit(start, data, 0, pseudocounts=pseudocounts, progress=False)
        assert not np.allclose(fitted.model.emission, start.emission)
        assert fitted.log_likelihoods[-1] > fitted.log_likelihoods[0]
        np.testing.assert_array_equal(np.asarray(fitted.model.transition)[np.asarray(start.transition) == 0], 0)


def test_11_arrays_and_lists_are_data():
    right = sx.fit(sx.HMM(2), sx.Sequences.from_arrays([np.array([0, 1, 2] * 9)]), 0, progress=False).log_likelihood
    for data in ([np.array([0, 1, 2] * 9)], np.array([0, 1, 2] * 9), [0, 1, 2] * 9):
        assert sx.fit(sx.HMM(2), data, 0, progress=False).log_likelihood == right
    assert np.isfinite(sx.fit(sx.HMM(2), np.array([[0], [1]]), 0, progress=False).log_likelihood)


def gpt_tensors(D=8, V=11, T=6):
    """The tensors of a nanoGPT of one layer without its embedding, which is tied to `lm_head.weight`."""
    draw = np.random.default_rng(0)
    normal = lambda *shape: draw.normal(size=shape).astype(np.float32)
    found = {"transformer.wpe.weight": normal(T, D), "lm_head.weight": normal(V, D)}
    linear = {"attn.c_attn": (3 * D, D), "attn.c_proj": (D, D), "mlp.c_fc": (4 * D, D), "mlp.c_proj": (D, 4 * D)}
    for name, shape in linear.items():
        found[f"transformer.h.0.{name}.weight"], found[f"transformer.h.0.{name}.bias"] = (
            normal(*shape),
            normal(shape[0]),
        )
    for name in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        found[f"transformer.{name}.weight"], found[f"transformer.{name}.bias"] = np.ones(D, "f"), np.zeros(D, "f")
    return found


def test_20_of_two_tied_tensors_a_file_may_keep_one(tmp_path):
    tensors = gpt_tensors()
    # as safetensors.torch.save_model writes it
    save_file(tensors, tmp_path / "one.safetensors", {"n_head": "2", "transformer.wte.weight": "lm_head.weight"})
    both = tensors | {"transformer.wte.weight": tensors["lm_head.weight"]}
    save_file(both, tmp_path / "two.safetensors", {"n_head": "2"})
    one, two = (sx.load_gpt(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.config == two.config
    assert one.config.tied
    np.testing.assert_array_equal(one(jnp.arange(6)), two(jnp.arange(6)))


@pytest.mark.slow
def test_23_codes_beyond_the_vocabulary_are_one_sentence(tmp_path):
    (np.arange(5000) % 300).astype("<u2").tofile(tmp_path / "t.bin")
    sizes = ["--block", "16", "--layers", "1", "--heads", "1", "--width", "8", "--steps", "2"]
    command = [sys.executable, "-c", "from steerax.cli.main import main; main()", "train", "t.bin", *sizes]
    done = subprocess.run(
        [*command, "--vocabulary", "256", "--out", "r"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert done.stderr == "steerax: t.bin holds token 299; with --vocabulary 256 they are 0 to 255.\n"
    assert not (tmp_path / "r").exists()


class Tensor(np.ndarray):
    """As much of a tensor of torch as a checkpoint needs."""

    def detach(self):
        return self

    def to(self, dtype):
        return self.astype(dtype)

    def numpy(self):
        return np.asarray(self)


@pytest.fixture
def torch(monkeypatch):
    """torch where it is installed; else something that keeps tensors in memory, not in files."""
    try:
        import torch
    except ImportError:
        kept = {}

        def save(state, path):
            path.write_bytes(b"a checkpoint")
            kept[path] = state

        read = lambda path, map_location, weights_only: kept[path]
        kinds = {"float16": np.float16, "bfloat16": np.void, "float32": np.float32}
        make = lambda array: array.view(Tensor)
        torch = types.SimpleNamespace(Tensor=Tensor, load=read, save=save, from_numpy=make, **kinds)
        monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def saved(torch, state, path):
    """A dictionary of arrays, in wrappers or not, as a file of torch."""
    tensors = lambda value: (
        {k: tensors(v) for k, v in value.items()} if isinstance(value, dict) else torch.from_numpy(value)
    )
    torch.save(tensors(state), path)
    return path


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "model.", "backbone.", "base_model.model.", "_orig_mod."])
def test_24_networks_in_wrappers_and_behind_prefixes_are_read(tmp_path, torch, wrapper, prefix):
    tensors = gpt_tensors()
    tensors["transformer.wte.weight"] = tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "m.safetensors", {"n_head": "2"})
    named = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    path = saved(torch, named if wrapper is None else {wrapper: named}, tmp_path / "m.pt")
    right, found = sx.load_gpt(tmp_path / "m.safetensors"), sx.load_gpt(path, 2)
    assert found.config == right.config
    np.testing.assert_array_equal(found(jnp.arange(6)), right(jnp.arange(6)))


@pytest.mark.parametrize(
    "names",
    [
        {"state_dict": {"model.transformer.wte.weight": (3, 4)}},
        {"backbone.transformer.wte.weight": (3, 4)},
        {"blocks.0.attn.key.weight": (4, 4), "wte.weight": (3, 4), "wpe.weight": (3, 4)},
    ],
)
def test_24_a_refusal_shows_the_names_found_and_those_that_are_read(tmp_path, torch, names):
    arrays = lambda value: (
        {k: arrays(v) for k, v in value.items()} if isinstance(value, dict) else np.zeros(value, np.float32)
    )
    path = saved(torch, arrays(names), tmp_path / "m.pt")
    with pytest.raises(sx.CheckpointError) as told:
        sx.load_gpt(path, 2)
    for name in (*names.get("state_dict", names), "h.0.attn.c_attn.weight"):
        assert name in str(told.value)


def test_30_functions_of_depth_stay_functions():
    for name in ("analyse", "prune", "resample", "importance", "stationarity", "telemetry"):
        first, second = getattr(sx.depth, name), getattr(sx.depth, name)
        assert first is second
        assert isinstance(first, types.FunctionType)
