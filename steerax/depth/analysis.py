r"""The analysis of a checkpoint: `analyse(gpt, tokens)`.

Everything that costs one forward and one backward pass is computed on all sequences; what costs many passes on the
first few, and the report says on how many.
"""

import sys
from collections.abc import Collection
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._bounds import COUNT, bounded
from .._compiled import keep_few
from .._errors import ConfigurationError, DataError
from ..data.chunks import chunks
from ..maths.concentration import affordable_bits
from ..maths.keys import as_key
from ..runs.clock import Clock
from ..runs.progress import Progress
from ..transformer.gpt import GPT, Block
from .change.grouped import GroupedGPT
from .change.resample import greedy_subset, local_error_groups, subset_loss
from .measure import bounds, transport
from .measure.costate import Ledger, Memory, backward, half_step_states, states_for, summed_losses, token_losses
from .measure.edges import edge_importance
from .measure.importance import importance
from .measure.refinement import Refinement, checked, flow_distance
from .measure.scoring import in_full_precision, scored_tokens, summed_loss
from .measure.stationarity import Stationarity, from_gradients
from .report.record import DepthChange, Report, Transport

_KEEP = ("costates", "states")


@bounded(batches=COUNT, sample=COUNT, draws=COUNT)
def analyse(
    gpt: GPT,
    tokens: Any,
    targets: Any = None,
    keep: Collection[str] = (),
    *,
    refinement: Refinement = "lie_trotter",
    batches: int = 8,
    sample: int = 8,
    draws: int = 4,
    key: PRNGKeyArray | int | None = None,
    memory: Memory = "recompute",
    progress: bool = False,
) -> Report:
    """Analyse a trained GPT as a controlled flow in depth; one of a narrower type in float32.

    **Arguments:** `tokens`, int `[B T]` or `Sequences`, best independent documents; `targets`, the same shape, −1 where
    nothing is scored (None: every token after the first); `keep`, any of "costates" and "states"; `refinement`, the
    family of networks whose limit the flow is; `batches`, disjoint batches for the unbiased stationarity; `sample`,
    sequences for what needs many passes (flow, importance, depth changes; edges on half of them); `draws` of labels for
    the Fisher costates; `key` for those draws; `memory`, "recompute" the layers on the way back or "store" what they
    need; `progress`, a bar on a terminal.

    **Returns:** `Report`. **Raises:** `DataError` for tokens that cannot be scored or fewer than two sequences,
    `ConfigurationError` for an unknown `keep`, `refinement` or `memory`.
    """
    if unknown := set(keep) - set(_KEEP):
        raise ConfigurationError(f"Cannot keep {sorted(unknown)[0]!r}; known are {', '.join(_KEEP)}.")
    checked(refinement)
    keep_few()
    gpt = in_full_precision(gpt)
    tokens, targets = scored_tokens(gpt, tokens, targets)
    B = len(tokens)
    sample, batches = _sizes(B, sample, batches, draws)
    labels_key, direction_key = jax.random.split(as_key(0 if key is None else key))
    few, few_targets = tokens[:sample], targets[:sample]
    paired = max(1, sample // 2)
    with Progress("analysing", 6, 0, progress) as bar:
        clock = Clock(bar.update)
        with clock("costates"):
            sweep = _whole_sweep(gpt, tokens, targets, batches, keep, memory)
        with clock("transport"):
            moved = _transport_of(gpt, few, few_targets, direction_key)
        with clock("flow"):
            flow = flow_distance(gpt, few, few_targets, refinement)
        with clock("importance"):
            removed = importance(gpt, few, few_targets, labels_key, draws)
        with clock("edges"):
            connections = edge_importance(gpt, few[:paired], few_targets[:paired], labels_key, draws)
        with clock("depth changes"):
            changes = _depth_changes(gpt, few, few_targets)
    parts = {"transport": moved, "flow": flow, "importance": removed, "depth_changes": changes}
    numbers = {"costates": B, "batches": batches, "flow, importance, depth changes": sample, "edges": paired}
    return _report(gpt, sweep, parts | {"edges": jax.tree.map(np.asarray, connections)}, numbers, clock.seconds)


def _report(
    gpt: GPT, sweep: "_Sweep", parts: dict[str, Any], sequences: dict[str, int], seconds: dict[str, float]
) -> Report:
    """The record of all parts."""
    risk, affordable = _sampling_bounds(gpt, sweep.sequence_losses)
    return Report(
        config=gpt.to_config(),
        loss=sweep.loss,
        costate_norms=np.sqrt(sweep.squares),
        costates=sweep.kept.get("costates"),
        states=sweep.kept.get("states"),
        learning=sweep.learning,
        ledger=sweep.ledger,
        kinetic_energy=sweep.kinetic,
        bounds=risk,
        affordable_bits=affordable,
        sequences=sequences,
        seconds=seconds,
        peak_memory=_peak_memory(),
        **parts,
    )


def _sizes(number: int, sample: int, batches: int, draws: int) -> tuple[int, int]:
    """`sample` and `batches`, capped at the number of sequences available. Raises `DataError` and `ConfigurationError`."""
    if number < 2:
        raise DataError("The analysis needs at least two sequences: one batch cannot tell signal from noise.")
    sample, batches = min(sample, number), min(batches, number)
    if sample < 1 or batches < 2 or draws < 1:
        raise ConfigurationError("sample and draws are at least 1, batches at least 2.")
    return sample, batches


def _sampling_bounds(gpt: GPT, losses: Float[np.ndarray, " B"]) -> tuple[tuple[bounds.RiskBound, ...], float]:
    """Bounds from the mean losses of documents, and the description bits that a gap of 0.5 nats affords."""
    B, range_ = len(losses), bounds.loss_range(gpt)
    common = {"number": B, "range_": range_, "trivial": float(np.log(gpt.config.vocab_size))}
    fixed = bounds.risk_bound("fixed", **common)
    bernstein = bounds.risk_bound("bernstein", variance=float(losses.var(ddof=1)), **common)
    return (fixed, bernstein), affordable_bits(0.5, float(range_), B, 0.05)


def _peak_memory() -> float | None:
    """GiB in use at most so far: of the device if it counts, else of the process; None if neither is known."""
    counted = jax.devices()[0].memory_stats()
    if counted and "peak_bytes_in_use" in counted:
        return counted["peak_bytes_in_use"] / 2**30
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


# ---- one forward and one backward pass over everything -------------------------------------------------------------------


class _Sweep(NamedTuple):
    """Sums over all sequences; see `_whole_sweep`."""

    loss: float
    sequence_losses: np.ndarray
    squares: np.ndarray
    kinetic: np.ndarray
    ledger: Ledger
    learning: Stationarity
    kept: dict[str, np.ndarray]


@eqx.filter_jit
def _examine(
    gpt: GPT,
    tokens: Int[Array, "b T"],
    targets: Int[Array, "b T"],
    inside: Bool[Array, "b T"],
    N: Array,
    keep: tuple,
    memory: Memory,
) -> tuple[dict[str, Array], Ledger, Block | None, dict[str, Array]]:
    """One chunk of sequences: sums, ledger, gradient in the blocks, and what is kept. `N` counts all scored tokens."""
    X, pulls = states_for(gpt, tokens, memory)

    def loss(X):
        losses = token_losses(gpt, X, targets)
        return losses.sum() / N, losses.sum(1)

    P, losses = jax.grad(loss, has_aux=True)(X[-1])
    swept = backward(gpt, X, P, pulls, gradient=True)
    moved = jnp.where(inside[None], (jnp.diff(X, axis=0) ** 2).sum(-1), 0)
    sums = {"losses": losses, "squares": (swept.costates[::2] ** 2).sum((1, 2, 3)), "kinetic": moved.sum((1, 2))}
    kept = {"costates": swept.costates[::2], "states": X[::2]}
    return sums, swept.ledger, swept.gradient, {name: kept[name] for name in keep}


def _whole_sweep(
    gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], batches: int, keep, memory: Memory = "recompute"
) -> _Sweep:
    """Costates, ledger, gradients and kinetic energy of all sequences, a few at a time."""
    scored = np.asarray(targets) >= 0
    inside = np.flip(np.logical_or.accumulate(np.flip(scored, 1), 1), 1)
    inside[:, 1:] |= scored[:, :-1]
    N = int(scored.sum())
    parts = np.array_split(np.arange(len(tokens)), batches)
    size = min(len(parts[0]), _sequences_at_once(gpt, tokens.shape[1], memory))
    parts_done = []
    gradients: list[Any] = []
    for part in parts:
        gradient = None
        for rows in (part[chunk] for chunk in chunks(len(part), size)):
            n = len(rows)
            pad = lambda a, fill, rows=rows, n=n: jnp.pad(a[rows], ((0, size - n), (0, 0)), constant_values=fill)
            chunk = pad(tokens, 0), pad(targets, -1), pad(jnp.asarray(inside), False)
            sums, ledger, g, extra = _examine(gpt, *chunk, jnp.asarray(N), tuple(sorted(set(keep))), memory)
            sums = {name: np.asarray(a, np.float64)[: n if name == "losses" else None] for name, a in sums.items()}
            ledger = Ledger(*(np.asarray(entries)[..., :n, :] for entries in ledger))
            parts_done.append((sums, ledger, {name: np.asarray(a)[:, :n] for name, a in extra.items()}))
            gradient = g if gradient is None else jax.tree.map(jnp.add, gradient, g)
        share = N / max(int(scored[part].sum()), 1)
        gradients.append(jax.tree.map(lambda a, share=share: np.asarray(a) * np.asarray(share, a.dtype), gradient))
    sums, ledgers, kept = zip(*parts_done, strict=True)
    losses = np.concatenate([s["losses"] for s in sums])
    return _Sweep(
        loss=float(losses.sum() / N),
        sequence_losses=losses / np.maximum(scored.sum(1), 1),
        squares=np.sum([s["squares"] for s in sums], axis=0),
        kinetic=np.sum([s["kinetic"] for s in sums], axis=0) / inside.sum(),
        ledger=Ledger(*(np.concatenate(field, axis=-2) for field in zip(*ledgers, strict=True))),
        learning=from_gradients(gpt.blocks, gradients),
        kept={name: np.concatenate([k[name] for k in kept], axis=1) for name in kept[0]},
    )


def _sequences_at_once(gpt: GPT, T: int, memory: Memory) -> int:
    """Sequences whose states and costates, and to store what the layers remember, are about 2^25 numbers."""
    L, H, D = gpt.config.n_layer, gpt.config.n_head, gpt.config.n_embd
    of_token = 2 * (2 * L + 1) * D + (L * (24 * D + 4 * H * T) if memory == "store" else 0)
    return max(1, 2**25 // (of_token * T))


# ---- what needs many passes ----------------------------------------------------------------------------------------------


def _transport_of(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], key: PRNGKeyArray) -> Transport:
    """Shares, sliced path and lens losses on a few sequences."""
    X = half_step_states(gpt, tokens)
    N = int((np.asarray(targets) >= 0).sum())
    flat = X.reshape(X.shape[0], -1, X.shape[-1])
    path, floor = transport.sliced_path(flat, key)
    return Transport(
        np.asarray(transport.mean_shift_share(flat)),
        np.asarray(transport.radial_share(flat)),
        path,
        floor,
        np.asarray([float(summed_losses(gpt, state, targets)) / N for state in X[::2]]),
    )


def _depth_changes(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> tuple[DepthChange, ...]:
    """Shallower networks at two thirds and half of the depth: chosen on one half of the sequences, scored on the other."""
    L, half = gpt.config.n_layer, len(tokens) // 2
    if L < 2 or half < 1:
        return ()
    fit, fit_targets, held, held_targets = tokens[:half], targets[:half], tokens[half:], targets[half:]
    N = int((np.asarray(held_targets) >= 0).sum())
    if N == 0 or not (np.asarray(fit_targets) >= 0).any():
        return ()
    per_layer = sum(leaf.size for leaf in jax.tree.leaves(gpt.blocks)) // L
    rows = [DepthChange(L, "unchanged", float(summed_loss(gpt, held, held_targets)) / N, gpt.n_parameters)]
    for layers in sorted({max(1, round(2 * L / 3)), max(1, L // 2)} - {L}, reverse=True):
        groups = local_error_groups(gpt, layers, half_step_states(gpt, fit)[::2])
        grouped = float(summed_loss(GroupedGPT(gpt, groups), held, held_targets)) / N
        rows.append(DepthChange(layers, "field_average", grouped, gpt.n_parameters))
        kept = greedy_subset(L, layers, lambda kept: subset_loss(gpt, fit, fit_targets, kept))
        smaller = gpt.n_parameters - (L - layers) * per_layer
        rows.append(DepthChange(layers, "greedy", subset_loss(gpt, held, held_targets, kept) / N, smaller))
        even = np.round(np.linspace(0, L - 1, layers)).astype(int).tolist()
        rows.append(DepthChange(layers, "even", subset_loss(gpt, held, held_targets, even) / N, smaller))
    return tuple(rows)
