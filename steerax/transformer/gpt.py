r"""The GPT-2 / nanoGPT architecture: learned positions, pre-LayerNorm blocks, tied unembedding.

A block is two half-steps on the residual stream $X$ `[T D]`, the attention $A$ and the two-layer perceptron $M$:

$$X_0=E[z]+P,\qquad X_{l+1/2}=X_l+A_l(X_l),\qquad X_{l+1}=X_{l+1/2}+M_l(X_{l+1/2}),\qquad
  \mathrm{logits}=\mathrm{LN}_f(X_L)E^\top,$$
$$A(X)=\sum_h\mathrm{softmax}(q_hk_h^\top/\sqrt K)v_hW_h+b,\quad(q,k,v)=\mathrm{LN}(X)W+b,\qquad
  M(X)=\mathrm{gelu}(\mathrm{LN}(X)W_\mathrm{up}+b)W_\mathrm{down}+b.$$

Every part can be called alone: `gpt.embed`, `gpt.block(l)` with `block.attention_increment`, `block.head_outputs`,
`block.mlp_increment`, and `gpt.unembed`; `gpt.hidden_states` gives all $X$ at once. The parameters of all blocks are
stacked along a leading layer axis and the layers run in one `lax.scan`: it compiles once per block, not once per
layer, and on a CPU it keeps XLA from recomputing the whole residual stream in every LayerNorm gradient.

[Radford2019] Language models are unsupervised multitask learners; nanoGPT (github.com/karpathy/nanoGPT).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from .._bounds import COUNT, NOT_NEGATIVE, Range
from .._errors import ConfigurationError, DataError
from ..maths.keys import as_key
from ..runs.models import fill
from .attention import attend, attention_weights, dropout, rotated

_ACTIVATIONS = ("gelu", "gelu_tanh")
_POSITIONS = ("learned", "rotary", "none")
_ONE_HOT_LIMIT = 256  # below this many tokens a product with one-hot rows beats gather and its scattered gradient


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    r"""The shape of a GPT.

    **Arguments:** `vocab_size` $V$; `block_size`, the longest input; `n_layer` $L$; `n_head` $H$; `n_embd` $D$, a
    multiple of $H$; `bias`, in the linear maps and LayerNorms; `dropout`, a rate in $[0,1)$ used only where a key is
    given; `tied`, whether the unembedding is the token embedding; `missing`, whether there is an input row for missing
    tokens (−1); `activation`, "gelu" (nanoGPT) or "gelu_tanh" (Hugging Face GPT-2); `epsilon` of the LayerNorms.

    Three arguments leave the architecture for experiments: `mlp=False` (attention only), `norm=False` (no LayerNorm anywhere) and
    `positions`, "learned", "rotary" (queries and keys turned by their position [SuEtAl2021]) or "none".

    **Raises:** `ConfigurationError` for a number out of its range or an unknown activation.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    bias: bool = True
    dropout: float = 0.0
    tied: bool = True
    missing: bool = False
    activation: str = "gelu"
    epsilon: float = 1e-5
    mlp: bool = True
    norm: bool = True
    positions: str = "learned"

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            COUNT.check(name, getattr(self, name))
            object.__setattr__(self, name, int(getattr(self, name)))
        Range(0, 1).check("dropout", self.dropout)
        NOT_NEGATIVE.check("epsilon", self.epsilon)
        if self.n_embd % self.n_head:
            raise ConfigurationError(f"n_embd={self.n_embd} must be a multiple of n_head={self.n_head}.")
        if self.dropout == 1:
            raise ConfigurationError("dropout is 1, which would drop everything; it must be below.")
        if self.activation not in _ACTIVATIONS:
            raise ConfigurationError(f"activation is {self.activation!r}; choose one of {', '.join(_ACTIVATIONS)}.")
        if self.positions not in _POSITIONS:
            raise ConfigurationError(f"positions is {self.positions!r}; choose one of {', '.join(_POSITIONS)}.")
        if self.positions == "rotary" and self.n_embd // self.n_head % 2:
            raise ConfigurationError(
                f"Rotary positions turn pairs of numbers; a head has {self.n_embd // self.n_head}, which is odd."
            )

    @property
    def variant(self) -> str:
        """In what the architecture differs from GPT-2, in words; empty if in nothing."""
        parts = ["no MLP"] * (not self.mlp) + ["no LayerNorm"] * (not self.norm)
        return ", ".join(parts + [f"positions={self.positions!r}"] * (self.positions != "learned"))


class LayerNorm(eqx.Module):
    r"""$(x-\mathrm{mean})/\sqrt{\mathrm{variance}+\epsilon}\cdot\mathrm{weight}+\mathrm{bias}$ over the last axis; statistics in float32 at least."""

    weight: Float[Array, "*L D"]
    bias: Float[Array, "*L D"] | None
    epsilon: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "T D"]) -> Float[Array, "T D"]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - wide.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        y = (centred * jax.lax.rsqrt(variance + self.epsilon)).astype(x.dtype) * self.weight[None]
        return y if self.bias is None else y + self.bias[None]


class Linear(eqx.Module):
    """$xW+b$, with $W$ `[in out]`."""

    weight: Float[Array, "*L m n"]
    bias: Float[Array, "*L n"] | None

    def __call__(self, x: Float[Array, "T m"]) -> Float[Array, "T n"]:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias[None]


def gelu(x: Float[Array, "..."], kind: str) -> Float[Array, "..."]:
    r"""$x\Phi(x)$ with $\Phi$ the standard normal distribution function, or its approximation by tanh."""
    if kind == "gelu_tanh":
        return jax.nn.gelu(x, approximate=True)
    return x * (jax.lax.erf(x * np.asarray(0.5**0.5, x.dtype)) * 0.5 + 0.5)


class Block(eqx.Module):
    """One layer: an attention half-step, then an MLP half-step. `gpt.blocks` is all of them, stacked."""

    ln_attention: Any  # a LayerNorm; without norm the identity
    qkv: Linear  # [D 3D]: the columns are q, k, v, each head after head
    out: Linear  # [D D]: the rows are head after head
    ln_mlp: Any
    up: Any  # a Linear [D 4D]; `None` without MLP
    down: Any  # a Linear [4D D]
    config: GPTConfig = eqx.field(static=True)

    def project(self, x: Float[Array, "T D"], start: int | Int[Array, ""] = 0) -> tuple[Float[Array, "H T K"], ...]:
        """Queries, keys and values of every head; the first row stands at position `start`."""
        heads = (x.shape[0], self.config.n_head, -1)
        parts = jnp.split(self.qkv(self.ln_attention(x)), 3, axis=-1)
        q, k, v = (part.reshape(heads).swapaxes(0, 1) for part in parts)
        if self.config.positions == "rotary":
            q, k = rotated(q, start), rotated(k, start)
        return q, k, v

    def attention_increment(self, x: Float[Array, "T D"], key: Key[Array, ""] | None = None) -> Float[Array, "T D"]:
        """$A(X)$: what the attention half-step adds to the residual stream."""
        on_weights, on_output = (None, None) if key is None else jax.random.split(key)
        q, k, v = self.project(x)
        read = attend(q, k, v, rate=self.config.dropout, key=on_weights)
        return dropout(self.out(read.transpose(1, 0, 2).reshape(x.shape)), self.config.dropout, on_output)

    def mlp_increment(self, x: Float[Array, "T D"], key: Key[Array, ""] | None = None) -> Float[Array, "T D"]:
        """$M(X)$: what the MLP half-step adds to the residual stream; zero if there is none."""
        if self.down is None:
            return jnp.zeros_like(x)
        return dropout(self.down(self.neurons(x)), self.config.dropout, key)

    def neurons(self, x: Float[Array, "T D"]) -> Float[Array, "T W"]:
        """The activations inside the perceptron, $W=4D$ of them."""
        if self.up is None:
            raise ConfigurationError("This network has no MLP, so it has no neurons.")
        return gelu(self.up(self.ln_mlp(x)), self.config.activation)

    def __call__(self, x: Float[Array, "T D"], key: Key[Array, ""] | None = None) -> Float[Array, "T D"]:
        """Both half-steps: $X_l$ to $X_{l+1}$."""
        first, second = (None, None) if key is None else jax.random.split(key)
        x = x + self.attention_increment(x, first)
        return x + self.mlp_increment(x, second)

    def attention(self, x: Float[Array, "T D"], queries: Int[Array, "q"] | None = None) -> Float[Array, "H q T"]:
        """The attention matrices, or only the rows of some query positions (for long inputs)."""
        q, k, _ = self.project(x)
        if queries is None:
            return attention_weights(q, k)
        # One query at a time has its own offset; the rows of a batch of positions are a vmap over them.
        row = lambda i: attention_weights(jax.lax.dynamic_slice_in_dim(q, i, 1, axis=1), k, i)[:, 0]
        return jax.vmap(row, out_axes=1)(queries)

    def head_outputs(self, x: Float[Array, "T D"]) -> Float[Array, "H T D"]:
        """What each head adds: their sum plus `out.bias` is `attention_increment(x)`."""
        read = attend(*self.project(x))
        return jnp.einsum("htk,hkd->htd", read, self._out_by_head)

    def offered(self, x: Float[Array, "T D"]) -> Float[Array, "H T D"]:
        """What each head would add to a position that looked at this token alone: $v_hW_h$."""
        return jnp.einsum("htk,hkd->htd", self.project(x)[2], self._out_by_head)

    @property
    def _out_by_head(self) -> Float[Array, "H K D"]:
        return self.out.weight.reshape(self.config.n_head, -1, self.config.n_embd)


class GPT(eqx.Module):
    r"""A GPT on one token sequence: `gpt(tokens) -> logits [T V]`; row $t$ predicts token $t+1$.

    There is no begin-of-sequence token: the first token is read and never predicted. A loss is therefore scored from
    the second token on, and a filter it is compared with is scored on the same tokens. `jax.vmap` gives batches. The
    parameters are float32 whatever JAX's default is; `gpt.astype(jnp.float64)` changes that.

    **Arguments:** `config`; `key`, an integer seed or a typed key, for the GPT-2 initialisation (normal, of standard
    deviation 0.02, and $0.02/\sqrt{2L}$ into the residual stream).
    """

    token_embedding: Float[Array, "V D"]
    position_embedding: Float[Array, "block_size D"] | None
    missing_embedding: Float[Array, "D"] | None
    blocks: Block
    ln_final: Any
    unembedding: Float[Array, "V D"] | None
    config: GPTConfig = eqx.field(static=True)

    def __init__(self, config: GPTConfig, *, key: Key[Array, ""] | int):
        D, L = config.n_embd, config.n_layer
        keys = iter(jax.random.split(as_key(key), 8))
        normal = lambda *shape, scale=0.02: np.float32(scale) * jax.random.normal(next(keys), shape, jnp.float32)
        zeros = lambda *shape: jnp.zeros(shape, jnp.float32) if config.bias else None
        ones = lambda *shape: jnp.ones(shape, jnp.float32)
        norm = lambda *shape: (
            LayerNorm(ones(*shape), zeros(*shape), config.epsilon) if config.norm else eqx.nn.Identity()
        )
        into_residual = 0.02 / (2 * L) ** 0.5
        self.config = config
        self.token_embedding = normal(config.vocab_size, D)
        positions = normal(config.block_size, D)
        self.position_embedding = positions if config.positions == "learned" else None
        self.blocks = Block(
            ln_attention=norm(L, D),
            qkv=Linear(normal(L, D, 3 * D), zeros(L, 3 * D)),
            out=Linear(normal(L, D, D, scale=into_residual), zeros(L, D)),
            ln_mlp=norm(L, D) if config.mlp else None,
            up=Linear(normal(L, D, 4 * D), zeros(L, 4 * D)) if config.mlp else None,
            down=Linear(normal(L, 4 * D, D, scale=into_residual), zeros(L, D)) if config.mlp else None,
            config=config,
        )
        self.ln_final = norm(D)
        self.unembedding = None if config.tied else normal(config.vocab_size, D)
        self.missing_embedding = normal(D) if config.missing else None

    def __call__(self, tokens: Int[Array, "T"], *, key: Key[Array, ""] | None = None) -> Float[Array, "T V"]:
        """Logits of the next token at every position; dropout is on only if a key is given.

        **Raises:** `ConfigurationError` for more than `block_size` tokens; `DataError` for tokens the model does not
        know, but only outside `jit` and `vmap`, where their values can be seen.
        """
        if not isinstance(tokens, Tracer) and tokens.size:
            lowest, highest = int(jnp.min(tokens)), int(jnp.max(tokens))
            if lowest < (-1 if self.config.missing else 0) or highest >= self.config.vocab_size:
                wrong = lowest if lowest < 0 else highest
                raise DataError(f"The input holds token {wrong}; the model knows 0 to {self.config.vocab_size - 1}.")
        x = self.embed(tokens, None if key is None else jax.random.fold_in(key, 0))
        return self.unembed(self.run_blocks(x, key))

    def embed(self, tokens: Int[Array, "T"], key: Key[Array, ""] | None = None) -> Float[Array, "T D"]:
        """$X_0$: token plus position."""
        T = tokens.shape[0]
        if self.config.block_size < T:
            raise ConfigurationError(
                f"The input has {T} tokens; cut it into windows of at most {self.config.block_size}."
            )
        return dropout(self.placed(self.token_rows(tokens), 0), self.config.dropout, key)

    def placed(self, rows: Float[Array, "T D"], start: int | Int[Array, ""]) -> Float[Array, "T D"]:
        """Token rows with their positions, the first of which is `start`."""
        if self.position_embedding is None:
            return rows
        return rows + jax.lax.dynamic_slice_in_dim(self.position_embedding, start, rows.shape[0])

    def token_rows(self, tokens: Int[Array, "T"]) -> Float[Array, "T D"]:
        """$E[z]$. Token −1 gets the missing-token embedding; if the model has none, its row is undefined."""
        if self.config.vocab_size <= _ONE_HOT_LIMIT:
            x = jax.nn.one_hot(tokens, self.config.vocab_size, dtype=self.token_embedding.dtype) @ self.token_embedding
        else:
            x = self.token_embedding[jnp.maximum(tokens, 0)]
        if self.missing_embedding is None:
            return x
        return jnp.where(tokens[:, None] < 0, self.missing_embedding[None], x)

    def run_blocks(self, x: Float[Array, "T D"], key: Key[Array, ""] | None = None) -> Float[Array, "T D"]:
        """$X_L$ from $X_0$. Gradients keep the outputs of the linear maps and recompute the rest."""
        keys = None if key is None else jax.random.split(jax.random.fold_in(key, 1), self.config.n_layer)
        step = jax.checkpoint(
            lambda x, block, key: block(x, key),
            policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
            prevent_cse=False,
        )
        return jax.lax.scan(lambda x, layer: (step(x, *layer), None), x, (self.blocks, keys))[0]

    def unembed(self, x: Float[Array, "T D"]) -> Float[Array, "T V"]:
        """Logits from $X_L$: the final LayerNorm, then the unembedding."""
        matrix = self.token_embedding if self.unembedding is None else self.unembedding
        return self.ln_final(x) @ matrix.T

    def block(self, layer: int | Int[Array, ""]) -> Block:
        """Block `layer` (0-based) on its own."""
        return jax.tree.map(lambda leaf: leaf[layer], self.blocks)

    def hidden_states(self, tokens: Int[Array, "T"]) -> Float[Array, "M T D"]:
        r"""$X_0,X_{1/2},X_1,\dots,X_L$: the residual stream before and after every half-step; $M=2L+1$."""

        def step(x, block):
            half = x + block.attention_increment(x)
            full = half + block.mlp_increment(half)
            return full, jnp.stack([half, full])

        x = self.embed(tokens)
        states = jax.lax.scan(step, x, self.blocks)[1]
        return jnp.concatenate([x[None], states.reshape(-1, *x.shape)])

    def attention(self, tokens: Int[Array, "T"], queries: Int[Array, "q"] | None = None) -> Float[Array, "L H q T"]:
        """Attention matrices of all layers and heads; rows sum to 1, the future has weight 0.

        `queries` asks for the rows of some positions only: memory $LHqT$ instead of $LHT^2$.
        """
        step = lambda x, block: (block(x), block.attention(x, queries))
        return jax.lax.scan(step, self.embed(tokens), self.blocks)[1]

    def astype(self, dtype: Any) -> "GPT":
        """The same model with parameters of another floating dtype (float64 needs JAX's x64 mode)."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)

    @property
    def n_parameters(self) -> int:
        """How many numbers the model has, embeddings included, a tied matrix once."""
        return sum(leaf.size for leaf in jax.tree.leaves(self))

    def to_config(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return dataclasses.asdict(self.config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "GPT":
        """A model from a configuration and its named arrays. **Raises:** `CheckpointError` if they disagree."""
        return fill(cls.template(GPTConfig(**config)), arrays)

    @classmethod
    def template(cls, config: GPTConfig) -> "GPT":
        """A model of shapes without numbers."""
        return eqx.filter_eval_shape(lambda: cls(config, key=jax.random.key(0)))
