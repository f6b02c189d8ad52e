r"""A shallower network that loses no parameters: the layers of a group act side by side.

Averaging a control over a cell of depth means averaging the *field* it produces (a relaxed control), not the weights:
the heads and neurons of trained layers are not aligned, so averaged weights mean nothing. An Euler step over a group
$g$ of layers is
$$X\mathrel{+}=\sum_{l\in g}A_l(X),\qquad X\mathrel{+}=\sum_{l\in g}M_l(X):$$
one layer with the heads and neurons of the whole group.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._errors import ConfigurationError
from ...transformer.gpt import GPT, Block, GPTConfig


class GroupedGPT(eqx.Module):
    """A GPT whose layers act in groups; `grouped(tokens) -> logits [T V]` like the GPT itself.

    With one layer in every group it *is* the GPT. It can be tuned further; it is deterministic (no dropout).

    **Attributes:** `gpt`, which holds all parameters; `groups`, consecutive layers `((0,), (1, 2), …)` that cover
    0..L−1 in order. **Raises:** `ConfigurationError` if they do not.
    """

    gpt: GPT
    groups: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __check_init__(self):
        if [l for group in self.groups for l in group] != list(range(self.gpt.config.n_layer)) or () in self.groups:
            raise ConfigurationError(
                f"The groups {self.groups} do not cover the layers 0..{self.gpt.config.n_layer - 1} once, in order."
            )

    @property
    def config(self) -> GPTConfig:
        """The configuration of the GPT inside."""
        return self.gpt.config

    @property
    def n_parameters(self) -> int:
        """All parameters of the GPT inside: none is lost."""
        return self.gpt.n_parameters

    def embed(self, tokens: Int[Array, " T"]) -> Float[Array, "T D"]:
        """X_0, as in the GPT."""
        return self.gpt.embed(tokens)

    def unembed(self, X: Float[Array, "T D"]) -> Float[Array, "T V"]:
        """Logits from the final states, as in the GPT."""
        return self.gpt.unembed(X)

    def hidden_states(self, tokens: Int[Array, " T"]) -> Float[Array, "S T D"]:
        """The states before and after every half-step, S = 2·(number of groups) + 1."""
        states = [self.gpt.embed(tokens)]
        for group in self.groups:
            states += group_step(members(self.gpt.blocks, group), states[-1])
        return jnp.stack(states)

    def __call__(self, tokens: Int[Array, " T"], *, key: Key[Array, ""] | None = None) -> Float[Array, "T V"]:
        """Logits."""
        return self.unembed(self.hidden_states(tokens)[-1])


def members(blocks: Block, group: tuple[int, ...]) -> Block:
    """The consecutive layers of a group, stacked."""
    return jax.tree.map(lambda leaf: leaf[group[0] : group[-1] + 1], blocks)


@jax.checkpoint
def group_step(members: Block, X: Float[Array, "T D"]) -> tuple[Float[Array, "T D"], Float[Array, "T D"]]:
    """The states after both half-steps of a group: all attentions read X, then all MLPs read the sum."""
    half = jax.lax.scan(lambda total, block: (total + block.attention_increment(X), None), X, members)[0]
    full = jax.lax.scan(lambda total, block: (total + block.mlp_increment(half), None), half, members)[0]
    return half, full
