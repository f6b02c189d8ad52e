"""Every layout gives the same network; a file that is wrong gives one sentence."""

import json
import subprocess
import sys

import gpt_twin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import steerax as sx
from steerax._errors import CheckpointError, ConfigurationError

TOKENS = np.array([3, 1, 4, 1, 5, 9, 2])


@pytest.fixture(scope="module")
def state():
    return gpt_twin.random_state()


def test_hugging_face_folders_whole_and_in_shards(tmp_path, state):
    logits, _, _ = gpt_twin.forward(state, TOKENS, 3, tanh=True)
    for shards in (1, 3):
        gpt = sx.load_gpt(gpt_twin.write_hugging_face(tmp_path / str(shards), state, shards))
        np.testing.assert_allclose(gpt(jnp.asarray(TOKENS)), logits, rtol=0, atol=1e-12)


def test_nanogpt_names_prefixes_masks_and_heads_from_metadata(tmp_path, state):
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    compiled["_orig_mod.transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 9, 9)))
    save_file(compiled, tmp_path / "a.safetensors", {"n_head": "3"})
    gpt = sx.load_gpt(tmp_path / "a.safetensors")
    logits, _, _ = gpt_twin.forward(state, TOKENS, 3)
    np.testing.assert_allclose(gpt(jnp.asarray(TOKENS)), logits, rtol=0, atol=1e-12)


def test_padding_rows_of_a_vocabulary_can_be_cut(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    whole = sx.load_gpt(tmp_path / "a.safetensors", n_head=3)
    cut = sx.load_gpt(tmp_path / "a.safetensors", n_head=3, vocab_size=10)
    tokens = jnp.asarray(TOKENS)
    np.testing.assert_allclose(cut(tokens), whole(tokens)[:, :10], atol=1e-13)


def test_half_precision_becomes_float32(tmp_path, state):
    save_file({n: t.astype(np.float16) for n, t in state.items()}, tmp_path / "a.safetensors")
    gpt = sx.load_gpt(tmp_path / "a.safetensors", n_head=3)
    assert {leaf.dtype for leaf in jax.tree.leaves(gpt)} == {np.dtype(np.float32)}


def test_our_own_folder_comes_back_bit_for_bit(tmp_path, key):
    config = sx.GPTConfig(7, 8, 2, 2, 8, bias=False, dropout=0.1, tied=False, missing=True)
    gpt = sx.GPT(config, key=key)
    sx.save_gpt(gpt, tmp_path / "a")
    for found in (sx.load_gpt(tmp_path / "a"), sx.load(tmp_path / "a")):
        assert found.config == config
        assert jax.tree.structure(found) == jax.tree.structure(gpt)
        jax.tree.map(np.testing.assert_array_equal, found, gpt)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("transformer.wte.weight"), "'wte.weight' is missing"),
        (lambda s: s.pop("transformer.h.1.mlp.c_fc.bias"), "'h.1.mlp.c_fc.bias' is missing"),
        (lambda s: s.update({"transformer.ln_f.weight": np.ones(5)}), "'ln_f.weight' has shape"),
        (lambda s: s.update({"transformer.h.0.attn.c_attn.weight": np.ones((12, 12))}), "c_attn.weight' has shape"),
        (lambda s: s.update({"lm_head.weight": np.ones((3, 12))}), "'lm_head.weight' has shape"),
        (lambda s: s.update({"transformer.h.0.lora.weight": np.ones(3)}), "'h.0.lora.weight' has no place"),
        (lambda s: s.update({"transformer.h.3.ln_1.weight": np.ones(12)}), "without a gap"),
        (lambda s: s.update({"transformer.wpe.weight": np.ones((9, 12), np.int32)}), "not real numbers"),
        (lambda s: s.update({"transformer.wte.weight": np.ones((0, 12))}), "has shape"),
    ],
)
def test_rejects_tensors_that_are_missing_left_over_or_misshapen(tmp_path, spoil, message):
    tensors = dict(gpt_twin.random_state())
    spoil(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message):
        sx.load_gpt(tmp_path / "a.safetensors", n_head=3)


def test_rejects_unknown_or_contradictory_heads(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="pass n_head"):
        sx.load_gpt(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="cannot share"):
        sx.load_gpt(tmp_path / "a.safetensors", n_head=5)
    with pytest.raises(ConfigurationError, match="1 to 11"):
        sx.load_gpt(tmp_path / "a.safetensors", n_head=3, vocab_size=12)
    with pytest.raises(CheckpointError, match="drop the argument"):
        sx.load_gpt(gpt_twin.write_hugging_face(tmp_path / "hf", state), n_head=2)


def test_rejects_other_architectures_and_hostile_indices(tmp_path, state):
    with pytest.raises(CheckpointError, match="activation"):
        sx.load_gpt(gpt_twin.write_hugging_face(tmp_path / "a", state, activation_function="relu"))
    with pytest.raises(CheckpointError, match="scales its attention"):
        sx.load_gpt(gpt_twin.write_hugging_face(tmp_path / "b", state, scale_attn_by_inverse_layer_idx=True))
    folder = gpt_twin.write_hugging_face(tmp_path / "c", state, shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../secret"}}))
    with pytest.raises(CheckpointError, match="not a file beside it"):
        sx.load_gpt(folder)


def test_rejects_what_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        sx.load_gpt(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        sx.load_gpt(tmp_path / "a.txt")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        sx.load_gpt(tmp_path)


def test_a_pickle_is_never_run(tmp_path):
    """Without torch the file is refused; with torch it is read as weights only, which refuses code."""
    trap = tmp_path / "sprung"
    content = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        sx.load_gpt(tmp_path / "a.pt", n_head=1)
    assert not trap.exists()


def test_rejects_models_of_unknown_kinds_and_newer_versions(tmp_path, key):
    with pytest.raises(CheckpointError, match="cannot be saved"):
        sx.save(object(), tmp_path / "a")
    sx.save_gpt(sx.GPT(sx.GPTConfig(3, 4, 1, 1, 4), key=key), tmp_path / "b")
    record = json.loads((tmp_path / "b" / "model.json").read_text())
    for change, message in (
        ({"version": 2}, "newer"),
        ({"format": "x"}, "format"),
        ({"kind": "x"}, "not known"),
        ({"config": record["config"] | {"n_embd": 8}}, "has shape"),
        ({"config": {}}, "does not fit"),
    ):
        (tmp_path / "b" / "model.json").write_text(json.dumps(record | change))
        with pytest.raises(CheckpointError, match=message):
            sx.load(tmp_path / "b")


def _bare(tmp_path, state, **metadata):
    save_file(state, tmp_path / "m.safetensors", metadata={"n_head": "3", **metadata})
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    "prefix", ["", "model.", "module.", "_orig_mod.", "backbone.", "net.gpt.", "base_model.model.", "a.b.c.d."]
)
@pytest.mark.parametrize("inner", ["transformer.", ""])
def test_names_behind_a_prefix_are_found(tmp_path, prefix, inner):
    state = gpt_twin.random_state(dtype=np.float32)
    right = sx.load_gpt(_bare(tmp_path, state))
    renamed = {prefix + inner + name.removeprefix("transformer."): t for name, t in state.items()}
    found = sx.load_gpt(_bare(tmp_path, renamed))
    tokens = jnp.array([1, 2, 3])
    np.testing.assert_array_equal(found(tokens), right(tokens))


@pytest.mark.parametrize("said", ["metadata", "metadata, other way", "config", "config, other name"])
def test_a_file_that_keeps_one_of_two_tied_tensors_is_whole(tmp_path, said):
    state = gpt_twin.random_state(dtype=np.float32)
    right = sx.load_gpt(_bare(tmp_path, state), activation="gelu_new")(jnp.array([1, 2, 3]))
    state["lm_head.weight"] = state.pop("transformer.wte.weight")
    names = ("transformer.wte.weight", "lm_head.weight")
    if said.startswith("metadata"):
        told = dict([names if said == "metadata" else names[::-1]])
        found = sx.load_gpt(_bare(tmp_path, state, **told), activation="gelu_new")
    else:
        if said != "config":
            state["transformer.lm_head.weight"] = state.pop("lm_head.weight")
        path = _bare(tmp_path, state)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_head": 3}))
        found = sx.load_gpt(path, activation="gelu_new")
    assert found.config.tied
    np.testing.assert_array_equal(found(jnp.array([1, 2, 3])), right)


def test_an_embedding_that_is_missing_is_not_made_up(tmp_path):
    state = gpt_twin.random_state(dtype=np.float32)
    state["lm_head.weight"] = state.pop("transformer.wte.weight")
    with pytest.raises(
        CheckpointError,
        match=r"wte.weight' is missing. The file has \d+ tensors \(lm_head.*transformer.h.0.*steerax reads",
    ):
        sx.load_gpt(_bare(tmp_path, state))


def test_the_activation_is_stated_or_that_of_the_layout(tmp_path):
    state = gpt_twin.random_state(dtype=np.float32)
    assert sx.load_gpt(_bare(tmp_path, state)).config.activation == "gelu"
    assert sx.load_gpt(_bare(tmp_path, gpt_twin.hugging_face(state))).config.activation == "gelu_tanh"
    assert sx.load_gpt(_bare(tmp_path, state), activation="gelu_new").config.activation == "gelu_tanh"
    folder = gpt_twin.write_hugging_face(tmp_path / "hf", state)
    with pytest.raises(CheckpointError, match="drop it"):
        sx.load_gpt(folder, activation="gelu")
    for strange in ("relu", ["gelu"], 3):
        other = gpt_twin.write_hugging_face(tmp_path / "other", state, activation_function=strange)
        with pytest.raises(CheckpointError, match="none of gelu"):
            sx.load_gpt(other)


def test_another_type_of_network_is_said_first(tmp_path):
    save_file({"model.layers.0.x": np.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="type 'llama'"):
        sx.load_gpt(tmp_path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.complex64, bool])
def test_tensors_that_are_no_real_numbers_are_refused(tmp_path, dtype):
    state = gpt_twin.random_state(dtype=np.float32)
    state["transformer.wpe.weight"] = state["transformer.wpe.weight"].astype(dtype)
    with pytest.raises(CheckpointError):
        sx.load_gpt(_bare(tmp_path, state))


def test_two_copies_behind_different_prefixes_are_refused(tmp_path):
    state = gpt_twin.random_state(dtype=np.float32)
    twice = state | {f"ema.{name}": t + 1 for name, t in state.items()}
    with pytest.raises(CheckpointError, match=r"one name but for what stands before it|no place|left over"):
        sx.load_gpt(_bare(tmp_path, twice))
    untied = gpt_twin.random_state(dtype=np.float32, tied=False)
    head = untied["lm_head.weight"]
    with pytest.raises(CheckpointError, match="v_head"):
        sx.load_gpt(_bare(tmp_path, {"v_head.lm_head.weight": head + 1, **untied}))


@pytest.mark.slow
def test_an_epsilon_of_zero_is_zero_and_sizes_of_numpy_are_saved(tmp_path):
    folder = gpt_twin.write_hugging_face(
        tmp_path / "hf", gpt_twin.random_state(dtype=np.float32), layer_norm_epsilon=0.0
    )
    assert sx.load_gpt(folder).config.epsilon == 0
    script = f"""
import jax, numpy as np, steerax as sx
config = sx.GPTConfig(*(np.int64(n) for n in (5, 4, 1, 2, 8)))
sx.save_gpt(sx.GPT(config, key=jax.random.key(0)), {str(tmp_path / "m")!r})
assert sx.load_gpt({str(tmp_path / "m")!r}).config == config
"""  # without the type checks of the tests
    subprocess.run([sys.executable, "-c", script], check=True)
