"""Logits, attention and hidden states of Hugging Face's own GPT-2; runs only where torch and transformers are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("float64", 1e-10)])
def test_hugging_face_gpt2(tmp_path, dtype, limit):
    torch.manual_seed(0)
    shape = {"vocab_size": 503, "n_positions": 128, "n_embd": 96, "n_layer": 4, "n_head": 6}
    config = transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval().to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "hf", max_shard_size="200KB")
    tokens = torch.randint(0, 503, (2, 100))
    with torch.no_grad():
        reference = model(tokens, output_attentions=True, output_hidden_states=True)
    gpt = sx.load_gpt(tmp_path / "hf")
    codes = jnp.asarray(tokens.numpy())
    np.testing.assert_allclose(jax.vmap(gpt)(codes), reference.logits.numpy(), rtol=0, atol=limit)
    attention = np.stack([a.numpy() for a in reference.attentions], 1)
    np.testing.assert_allclose(jax.vmap(gpt.attention)(codes), attention, rtol=0, atol=limit)
    # Hugging Face's last hidden state has passed the final LayerNorm.
    states = np.stack([h.numpy() for h in reference.hidden_states[:-1]], 1)
    np.testing.assert_allclose(jax.vmap(gpt.hidden_states)(codes)[:, :-2:2], states, rtol=0, atol=limit)
