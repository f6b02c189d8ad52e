"""A solved network as files that run without this library: JSON, a NumPy runner, a C header, packed trits."""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError, DataError
from ...runs.files import free_place, write_whole
from ...transformer.quantized import Forget, Local, Pool, QuantizedNetwork
from ..problem.alphabet import ternary
from ..problem.r1 import R1, Layer, Readout, Weights

_MAGIC = b"SX3"
_TRITS_PER_BYTE = 5  # 3^5 = 243 ≤ 256
_POWERS = 3 ** np.arange(_TRITS_PER_BYTE)


def write_network(network: QuantizedNetwork, folder: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write `network.json`, `run_network.py` (needs NumPy only) and `network.h` (C99); returns the paths.

    **Raises:** `ConfigurationError` if one is there and `overwrite` is false.
    """
    folder = Path(folder)
    contents = {
        "network.json": json.dumps(network.to_dict()) + "\n",
        "run_network.py": RUNNER,
        "network.h": c_header(network),
    }
    for name in contents:
        free_place(folder / name, overwrite)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


RUNNER = '''"""Label sequences with the integer network in network.json. Needs Python and NumPy, nothing else.

python run_network.py < sequences.txt      one sequence a line, tokens separated by blanks or commas

Where network.json names the tokens and the labels, these names are read and printed. Unknown tokens are refused.
"""

import json
import pathlib
import sys

import numpy as np


def run(network, tokens):
    """Labels of integer tokens [N n]."""
    embedding, tokens = np.array(network["embedding"]), np.asarray(tokens)
    n, size = embedding.shape
    if tokens.ndim != 2 or tokens.shape[1] != n or tokens.dtype.kind not in "iu":
        raise ValueError(f"The network reads whole numbers [N {n}], not {tokens.dtype}{list(tokens.shape)}.")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < size:
        raise ValueError(f"The network knows the tokens 0..{size - 1}; there are others.")
    registers = [embedding[np.arange(embedding.shape[0]), tokens]]
    for step in network["steps"]:
        if step["kind"] == "Forget":
            registers = [registers[r] for r in step["keep"]]
        elif step["kind"] == "Local":
            registers.append(np.array(step["table"])[registers[step["left"]], registers[step["right"]]])
        else:
            registers.append(pool(step, *(registers[step[r]] for r in ("query", "key", "value"))))
    labels = np.array(network["output"])[registers[0]]
    return labels[:, 0] if network["reads"] == "first" else labels


def pool(step, query, key, value):
    """Attention in integers."""
    s = np.array(step["score"])[query[:, :, None], key[:, None, :]]
    n, u = s.shape[-1], np.array(step["values"])
    seen = np.tril(np.ones((n, n), bool)) if step["causal"] else np.ones((n, n), bool)
    w = s * seen
    if step["weights"] is not None:
        E, best = np.array(step["weights"]), np.where(seen, s, s.min()).max(-1, keepdims=True)
        w = E[np.clip(best - s, 0, len(E) - 1)] * seen
    total, mass = (w * u[value][:, None, :]).sum(-1), w.sum(-1)
    half = np.maximum(mass, 1)
    if step["rounding"] == "up":
        z = (2 * total + half) // (2 * half)
    else:
        z = np.sign(total) * ((2 * np.abs(total) + half) // (2 * half))
    return np.clip(np.where(mass > 0, z, 0), u.min(), u.max()) - u.min()


if __name__ == "__main__":
    network = json.loads((pathlib.Path(__file__).parent / "network.json").read_text())
    n, size = np.shape(network["embedding"])
    names = network.get("symbols") or [str(code) for code in range(size)]
    codes, classes = {name: code for code, name in enumerate(names)}, network.get("classes")
    for number, line in enumerate(sys.stdin, start=1):
        words = line.rstrip("\\n").split(",") if "," in line else line.split()
        words = [word if word in codes else word.strip() for word in words]
        if not any(words):
            continue
        unknown = [word for word in words if word not in codes]
        if unknown or len(words) != n:
            found = f"{len(words)} tokens" if not unknown else f"the token {unknown[0]!r}"
            sys.exit(f"line {number} has {found}; the network reads {n} of {', '.join(names[:20])}")
        labels = run(network, np.array([[codes[word] for word in words]])).reshape(-1)
        print(*(classes[label] if classes else label for label in labels))
'''


def _c_table(values: Int[np.ndarray, "..."]) -> str:
    if values.ndim == 1:
        return "{" + ",".join(map(str, values.tolist())) + "}"
    return "{" + ",".join(_c_table(row) for row in values) + "}"


def _c_pool(step: Pool, register: str, registers: Sequence[str]) -> list[str]:
    u, low, high = step.values, int(step.values.min()), int(step.values.max())
    lines = [
        f"static const int score[{step.score.shape[0]}][{step.score.shape[1]}] = {_c_table(step.score)};",
        f"static const int values[{len(u)}] = {_c_table(u)};",
    ]
    q, k, v = (registers[r] for r in (step.query, step.key, step.value))
    end = "i + 1" if step.causal else "N_TOKENS"
    weight, find_best = "s", []
    if step.weights is not None:
        last = len(step.weights) - 1
        lines.append(f"static const long long E[{last + 1}] = {_c_table(step.weights)};")
        weight = f"E[best - s < {last} ? best - s : {last}]"
        find_best = [
            f"  long long best = score[{q}[i]][{k}[0]];",
            f"  for (int j = 1; j < {end}; j++) if (score[{q}[i]][{k}[j]] > best) best = score[{q}[i]][{k}[j]];",
        ]
    rounded = "floor_div(2 * t + m, 2 * m)"
    if step.rounding == "odd":
        rounded = "(t < 0 ? -((2 * -t + m) / (2 * m)) : (2 * t + m) / (2 * m))"
    return [
        *lines,
        "for (int i = 0; i < N_TOKENS; i++) {",
        "  long long t = 0, m = 0, z;",
        *find_best,
        f"  for (int j = 0; j < {end}; j++) {{",
        f"    long long s = score[{q}[i]][{k}[j]], w = {weight};",
        f"    m += w; t += w * values[{v}[j]];",
        "  }",
        f"  z = m > 0 ? {rounded} : 0;",
        f"  {register}[i] = (int)((z < {low} ? {low} : z > {high} ? {high} : z) - ({low}));",
        "}",
    ]


def _c_text(text: str) -> str:
    """A string of C, every byte of UTF-8 that is no plain letter or digit as three octal digits."""
    return '"' + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:03o}" for b in text.encode()) + '"'


def c_header(network: QuantizedNetwork, name: str = "steerax") -> str:
    """The network as one C99 header, integers and tables only: `int NAME_labels(const int *tokens, int *labels)` returns 0, or 1 +
    the position of a token that the network does not know, and then writes nothing. Names of tokens and labels, where the
    network has them, are `NAME_symbol(code)` and `NAME_class(code)`."""
    n, V = network.embedding.shape
    count = 1 if network.reads == "first" else n
    body = [
        f"static const int embedding[N_TOKENS][{V}] = {_c_table(network.embedding)};",
        f"static const int output[{len(network.output)}] = {_c_table(network.output)};",
        f"for (int i = 0; i < N_TOKENS; i++) if (tokens[i] < 0 || tokens[i] >= {V}) return i + 1;",
        "int r0[N_TOKENS];",
        "for (int i = 0; i < N_TOKENS; i++) r0[i] = embedding[i][tokens[i]];",
    ]
    registers, made = ["r0"], 1
    for step in network.steps:
        if isinstance(step, Forget):
            registers = [registers[r] for r in step.keep]
            continue
        register, made = f"r{made}", made + 1
        body.append(f"int {register}[N_TOKENS];")
        if isinstance(step, Local):
            rows, columns = step.table.shape
            left, right = registers[step.left], registers[step.right]
            inner = [
                f"static const int table[{rows}][{columns}] = {_c_table(step.table)};",
                f"for (int i = 0; i < N_TOKENS; i++) {register}[i] = table[{left}[i]][{right}[i]];",
            ]
        else:
            inner = _c_pool(step, register, registers)
        body += ["{", *("  " + line for line in inner), "}"]
        registers.append(register)
    body.append(f"for (int i = 0; i < {count}; i++) labels[i] = output[{registers[0]}[i]];")
    body.append("return 0;")
    named = [
        f"static inline const char *{name}_{what}(int code) {{ static const char *const names[] = {{{', '.join(map(_c_text, texts))}}};"
        " return names[code]; }"
        for what, texts in (("symbol", network.symbols), ("class", network.classes))
        if texts
    ]
    lines = [
        f"/* {network.name.replace('*/', '* /').replace('/*', '/ *') or 'integer network'}: {n} tokens from 0..{V - 1} in, {count} label(s) out */",
        f"#ifndef {name.upper()}_NETWORK_H",
        f"#define {name.upper()}_NETWORK_H",
        "",
        "static inline long long floor_div(long long a, long long b) { return a / b - (a % b < 0); }",
        "",
        *named,
        f"static int {name}_labels(const int *tokens, int *labels) {{",
        f"  enum {{ N_TOKENS = {n} }};",
        *("  " + line for line in body),
        "}",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def pack_trits(trits: Int[np.ndarray, "k"]) -> bytes:
    """Numbers −1, 0, 1, five to a byte."""
    padded = np.pad(np.asarray(trits) + 1, (0, -len(trits) % _TRITS_PER_BYTE))
    return (padded.reshape(-1, _TRITS_PER_BYTE) @ _POWERS).astype(np.uint8).tobytes()


def unpack_trits(packed: bytes, count: int) -> Int[np.ndarray, "k"]:
    """The numbers packed by `pack_trits`."""
    digits = np.frombuffer(packed, np.uint8)[:, None].astype(np.int64) // _POWERS % 3
    return digits.ravel()[:count] - 1


@functools.cache
def _factors() -> dict[tuple[int, ...], tuple[int, ...]]:
    """Primitive B → some ternary (Q, K) with QᵀK a positive multiple of it."""
    T = ternary(2, 2)
    products = np.einsum("qca,kcb->qkab", T, T).reshape(-1, 4)
    primitive = products // np.maximum(np.gcd.reduce(products, axis=1, keepdims=True), 1)
    q, k = np.divmod(np.arange(len(products)), len(T))
    return {
        tuple(B): (*T[a].ravel().tolist(), *T[b].ravel().tolist())
        for B, a, b in zip(primitive.tolist(), q, k, strict=True)
    }


def weights_to_bytes(model: R1, weights: Weights) -> bytes:
    """Q, K, V of every layer and w as packed trits, behind a head of nine bytes: 5 trits a byte, 12 trits a layer."""
    trits: list[int] = []
    for layer in weights.layers:
        B = np.array(layer.B).ravel()
        Q_K = _factors().get(tuple((B // max(int(np.gcd.reduce(B)), 1)).tolist()))
        if Q_K is None:
            raise ConfigurationError(f"B = {layer.B} is no product of ternary matrices; its network has no trits.")
        trits += [*Q_K, *layer.V[0], *layer.V[1]]
    trits += weights.readout.w
    head = [model.length, model.levels, model.vocabulary, len(weights.layers), int(weights.readout.flipped)]
    threshold = weights.readout.threshold.to_bytes(1, "little", signed=True)
    return _MAGIC + bytes(head) + threshold + pack_trits(np.array(trits))


def weights_from_bytes(content: bytes) -> tuple[R1, Weights]:
    """The class and the weights written by `weights_to_bytes`. Raises `DataError` on anything else."""
    head = len(_MAGIC) + 6
    if content[:3] != _MAGIC or len(content) < head:
        raise DataError("These bytes are not a packed ternary network.")
    length, levels, vocabulary, depth, flipped = content[3:8]
    threshold = int.from_bytes(content[8:9], "little", signed=True)
    count = 12 * depth + 2
    if len(content) != head + -(-count // _TRITS_PER_BYTE):
        raise DataError("The packed ternary network is cut short or too long.")
    trits = unpack_trits(content[head:], count)
    layers = []
    for part in trits[:-2].reshape(-1, 3, 2, 2):
        B = (part[0].T @ part[1]).ravel()
        (a, b, c, d), V = (B // max(int(np.gcd.reduce(B)), 1)).tolist(), part[2].tolist()
        layers.append(Layer(((a, b), (c, d)), ((V[0][0], V[0][1]), (V[1][0], V[1][1]))))
    w0, w1 = trits[-2:].tolist()
    return R1(length, levels, vocabulary), Weights(tuple(layers), Readout((w0, w1), threshold, bool(flipped)))
