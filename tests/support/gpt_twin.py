"""GPT-2 written once more, in plain NumPy and float64, loop by loop, from a state dictionary in nanoGPT's layout."""

import json
import math

import numpy as np
from safetensors.numpy import save_file

erf = np.vectorize(math.erf)


def layer_norm(x, weight, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + (0 if bias is None else bias)


def gelu(x, tanh):
    if tanh:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def forward(state, tokens, n_head, tanh=False):
    """(logits [T V], attention [L H T T], hidden states after each half-step [2L+1 T D])."""
    get = lambda name: None if name not in state else np.asarray(state[name], np.float64)
    linear = lambda name, x: x @ get(name + ".weight").T + (0 if get(name + ".bias") is None else get(name + ".bias"))
    norm = lambda name, x: layer_norm(x, get(name + ".weight"), get(name + ".bias"))
    T = len(tokens)
    x = get("transformer.wte.weight")[tokens] + get("transformer.wpe.weight")[:T]
    D = x.shape[1]
    K = D // n_head
    states, attentions, layer = [x], [], 0
    while f"transformer.h.{layer}.ln_1.weight" in state:
        h = f"transformer.h.{layer}."
        qkv = linear(h + "attn.c_attn", norm(h + "ln_1", x))
        read, weights = np.zeros((T, D)), np.zeros((n_head, T, T))
        for head in range(n_head):
            q, k, v = (qkv[:, i * D + head * K : i * D + (head + 1) * K] for i in range(3))
            for t in range(T):
                s = np.array([q[t] @ k[u] for u in range(t + 1)]) / math.sqrt(K)
                weights[head, t, : t + 1] = np.exp(s) / np.exp(s).sum()
            read[:, head * K : (head + 1) * K] = weights[head] @ v
        x = x + linear(h + "attn.c_proj", read)
        states.append(x)
        x = x + linear(h + "mlp.c_proj", gelu(linear(h + "mlp.c_fc", norm(h + "ln_2", x)), tanh))
        states.append(x)
        attentions.append(weights)
        layer += 1
    head_matrix = get("lm_head.weight") if "lm_head.weight" in state else get("transformer.wte.weight")
    return norm("transformer.ln_f", x) @ head_matrix.T, np.stack(attentions), np.stack(states)


def random_state(V=11, T=9, L=2, D=12, bias=True, tied=True, seed=0, dtype=np.float64):
    """A state dictionary with nothing at its initial value, in nanoGPT's layout."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(0, 0.3, shape).astype(dtype)
    state = {"transformer.wte.weight": normal(V, D), "transformer.wpe.weight": normal(T, D)}
    shapes = {"attn.c_attn": (3 * D, D), "attn.c_proj": (D, D), "mlp.c_fc": (4 * D, D), "mlp.c_proj": (D, 4 * D)}
    for h in range(L):
        for name in ("ln_1", "ln_2"):
            state[f"transformer.h.{h}.{name}.weight"] = 1 + normal(D)
            if bias:
                state[f"transformer.h.{h}.{name}.bias"] = normal(D)
        for name, shape in shapes.items():
            state[f"transformer.h.{h}.{name}.weight"] = normal(*shape)
            if bias:
                state[f"transformer.h.{h}.{name}.bias"] = normal(shape[0])
    state["transformer.ln_f.weight"] = 1 + normal(D)
    if bias:
        state["transformer.ln_f.bias"] = normal(D)
    state["lm_head.weight"] = state["transformer.wte.weight"] if tied else normal(V, D)
    return state


def hugging_face(state):
    """The tensors under Hugging Face's names: linear maps transposed, no prefix, no tied copy."""
    flip = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    named = {k.removeprefix("transformer."): v.T if k.endswith(flip) else v for k, v in state.items()}
    del named["lm_head.weight"]
    return {k: np.ascontiguousarray(v) for k, v in named.items()}


def write_hugging_face(folder, state, shards=1, **config):
    folder.mkdir(exist_ok=True)
    tensors = hugging_face(state)
    told = {"model_type": "gpt2", "n_head": 3, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    (folder / "config.json").write_text(json.dumps(told | config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    places = {name: f"model-{i % shards:05d}.safetensors" for i, name in enumerate(sorted(tensors))}
    for place in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == place}, folder / place)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder
