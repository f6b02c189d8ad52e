r"""The report on a checkpoint: `analyse(gpt, tokens)`.

Everything that costs one forward and one backward pass is computed on all sequences; what costs many passes on the
first few, and the report says on how many.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._errors import ConfigurationError, DataError
from ..maths.concentration import affordable_bits
from ..runs.progress import Progress
from ..transformer.gpt import GPT, Block
from .change.grouped import GroupedGPT
from .change.resample import greedy_subset, local_error_groups, subset_loss
from .measure import bounds, transport
from .measure.costate import Ledger, Memory, backward, half_step_states, states_for, token_losses
from .measure.edges import EdgeImportance, edge_importance
from .measure.importance import Importance, importance
from .measure.refinement import FlowDistance, Refinement, checked, flow_distance
from .measure.scoring import scored_tokens, summed_loss
from .measure.stationarity import Stationarity, from_gradients

KEEP = ("costates", "states")


class DepthChange(NamedTuple):
    """One way to a shallower network: `layers`, `method`, `loss` on sequences not used for calibration, `parameters`."""

    layers: int
    method: str
    loss: float
    parameters: int


class Transport(NamedTuple):
    """How the law of the token states moves: shares and sliced distances `[2L]`, floors `[2L+1]`, lens losses `[L+1]`.

    `lens_loss[l]` is the loss of reading the prediction off the state after layer l.
    """

    mean_shift_share: np.ndarray
    radial_share: np.ndarray
    sliced_distance: np.ndarray
    sliced_floor: np.ndarray
    lens_loss: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    r"""What `analyse` found. Arrays are NumPy; `l` counts layers (0..L, after layers), `m` half-steps (2L).

    **Attributes:** `loss`, mean nats per scored token; `costate_norms` `[L+1]`, Frobenius norms of $\nabla_{X_l}$ `loss`;
    `costates` `[L+1 B T D]` and `states` `[L+1 B T D]` if kept, else None; `stationarity` `[L]`, unbiased
    $|\mathbb E\,\partial\ell/\partial\theta_l|^2$, and `stationarity_se`; `learning`, the `Stationarity` behind them;
    `ledger`; `flow_distance` $e_1$, `loss_by_refinement` (k → loss) and `flow`, the `FlowDistance` behind them;
    `kinetic_energy` `[2L]`; `transport`; `importance`; `depth_changes`; `bounds`; `affordable_bits` for a gap of 0.5
    nats; `edges`, what connections from heads are worth; `sequences`, on how many each part was computed; `seconds`, how
    long each took; `peak_memory`, GiB that the process had in use at most so far, or None where that is not known.
    """

    config: dict[str, Any]
    loss: float
    costate_norms: Float[np.ndarray, " K"]
    costates: Float[np.ndarray, "K B T D"] | None
    states: Float[np.ndarray, "K B T D"] | None
    stationarity: Float[np.ndarray, " L"]
    stationarity_se: Float[np.ndarray, " L"]
    learning: Stationarity
    ledger: Ledger
    flow_distance: float
    loss_by_refinement: dict[int | float, float]
    flow: FlowDistance
    kinetic_energy: Float[np.ndarray, " M"]
    transport: Transport
    importance: Importance
    edges: EdgeImportance
    depth_changes: tuple[DepthChange, ...]
    bounds: tuple[bounds.RiskBound, ...]
    affordable_bits: float
    sequences: dict[str, int]
    seconds: dict[str, float]
    peak_memory: float | None

    def summary(self) -> str:
        """The findings in a screen of text."""
        from .report.text import summary

        return summary(self)

    def to_html(self, path: str | os.PathLike, telemetry: str | os.PathLike | None = None) -> None:
        """Write the report as one self-contained HTML file.

        `telemetry`, the file that a `telemetry` hook wrote while the network trained, adds a section about it.
        Raises `DataError` if it holds no such records.
        """
        from .report.html import write

        write(self, path, telemetry)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON values (without costates, states and the ledger of single tokens)."""
        from .report.text import numbers

        return numbers(self)


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
    key: PRNGKeyArray | None = None,
    memory: Memory = "recompute",
    progress: bool = False,
) -> Report:
    """Analyse a trained GPT as a controlled flow in depth.

    **Arguments:** `tokens`, int `[B T]` or `Sequences`, best independent documents; `targets`, the same shape, −1 where
    nothing is scored (None: every token after the first); `keep`, any of "costates" and "states"; `refinement`, the
    family of networks whose limit the flow is; `batches`, disjoint batches for the unbiased stationarity; `sample`,
    sequences for what needs many passes (flow, importance, depth changes; edges on half of them); `draws` of labels for
    the Fisher costates; `key` for those draws; `memory`, "recompute" the layers on the way back or "store" what they
    need; `progress`, a bar on a terminal.

    **Returns:** `Report`. **Raises:** `DataError` for tokens that cannot be scored or fewer than two sequences,
    `ConfigurationError` for an unknown `keep`, `refinement` or `memory`.
    """
    if unknown := set(keep) - set(KEEP):
        raise ConfigurationError(f"Cannot keep {sorted(unknown)[0]!r}; known are {', '.join(KEEP)}.")
    checked(refinement)
    tokens, targets = scored_tokens(gpt, tokens, targets)
    B = len(tokens)
    sample, batches = sizes(B, sample, batches, draws)
    labels_key, direction_key = jax.random.split(jax.random.key(0) if key is None else key)
    few, few_targets = tokens[:sample], targets[:sample]
    paired = max(1, sample // 2)
    clock = Clock(("costates", "transport", "flow", "importance", "edges", "depth changes"), progress)
    with clock.bar:
        sweep = clock.time("costates", lambda: whole_sweep(gpt, tokens, targets, batches, keep, memory))
        moved = clock.time("transport", lambda: transport_of(gpt, few, few_targets, direction_key))
        flow = clock.time("flow", lambda: flow_distance(gpt, few, few_targets, refinement))
        worth = clock.time("importance", lambda: importance(gpt, few, few_targets, labels_key, draws))
        connections = clock.time(
            "edges", lambda: on_host(edge_importance(gpt, few[:paired], few_targets[:paired], labels_key, draws))
        )
        changes = clock.time("depth changes", lambda: depth_changes(gpt, few, few_targets))
    risk, affordable = sampling_bounds(gpt, sweep.sequence_losses)
    return Report(
        config=gpt.to_config(),
        loss=sweep.loss,
        costate_norms=np.sqrt(sweep.squares),
        costates=sweep.kept.get("costates"),
        states=sweep.kept.get("states"),
        stationarity=sweep.learning.signal,
        stationarity_se=sweep.learning.se,
        learning=sweep.learning,
        ledger=sweep.ledger,
        flow_distance=flow.distance,
        loss_by_refinement=flow.losses,
        flow=flow,
        kinetic_energy=sweep.kinetic,
        transport=moved,
        importance=worth,
        edges=connections,
        depth_changes=changes,
        bounds=risk,
        affordable_bits=affordable,
        sequences={"costates": B, "batches": batches, "flow, importance, depth changes": sample, "edges": paired},
        seconds=clock.seconds,
        peak_memory=peak_memory(),
    )


def sizes(number: int, sample: int, batches: int, draws: int) -> tuple[int, int]:
    """`sample` and `batches` as far as `number` sequences go. Raises `DataError` and `ConfigurationError`."""
    if number < 2:
        raise DataError("The analysis needs at least two sequences: one batch cannot tell signal from noise.")
    sample, batches = min(sample, number), min(batches, number)
    if sample < 1 or batches < 2 or draws < 1:
        raise ConfigurationError("sample and draws are at least 1, batches at least 2.")
    return sample, batches


def sampling_bounds(gpt: GPT, losses: Float[np.ndarray, " B"]) -> tuple[tuple[bounds.RiskBound, ...], float]:
    """Bounds from the mean losses of documents, and the description bits that a gap of 0.5 nats affords."""
    B, range_ = len(losses), bounds.loss_range(gpt)
    common = {"number": B, "range_": range_, "trivial": float(np.log(gpt.config.vocab_size))}
    fixed = bounds.risk_bound("fixed", **common)
    bernstein = bounds.risk_bound("bernstein", variance=float(losses.var(ddof=1)), **common)
    return (fixed, bernstein), affordable_bits(0.5, float(range_), B, 0.05)


def on_host(tree: Any) -> Any:
    """The same with NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def peak_memory() -> float | None:
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


class Clock:
    """Times the parts of an analysis and shows which one is running."""

    def __init__(self, parts: tuple[str, ...], shown: bool):
        self.bar = Progress("analysing", len(parts), 0, shown)
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work):
        """The result of `work()`, timed."""
        self.bar.update(len(self.seconds), name)
        started = time.perf_counter()
        found = work()
        self.seconds[name] = time.perf_counter() - started
        return found


# ---- one forward and one backward pass over everything -------------------------------------------------------------------


class Sweep(NamedTuple):
    """Sums over all sequences; see `whole_sweep`."""

    loss: float
    sequence_losses: np.ndarray
    squares: np.ndarray
    kinetic: np.ndarray
    ledger: Ledger
    learning: Stationarity
    kept: dict[str, np.ndarray]


@eqx.filter_jit
def examine(
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
    found = backward(gpt, X, P, pulls, gradient=True)
    moved = jnp.where(inside[None], (jnp.diff(X, axis=0) ** 2).sum(-1), 0)
    sums = {"losses": losses, "squares": (found.costates[::2] ** 2).sum((1, 2, 3)), "kinetic": moved.sum((1, 2))}
    kept = {"costates": found.costates[::2], "states": X[::2]}
    return sums, found.ledger, found.gradient, {name: kept[name] for name in keep}


def whole_sweep(
    gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], batches: int, keep, memory: Memory = "recompute"
) -> Sweep:
    """Costates, ledger, gradients and kinetic energy of all sequences, a few at a time."""
    scored = np.asarray(targets) >= 0
    inside = np.flip(np.logical_or.accumulate(np.flip(scored, 1), 1), 1)
    inside[:, 1:] |= scored[:, :-1]
    N = int(scored.sum())
    parts = np.array_split(np.arange(len(tokens)), batches)
    size = min(len(parts[0]), sequences_at_once(gpt, tokens.shape[1], memory))
    found = []
    gradients: list[Any] = []
    for part in parts:
        gradient = None
        for start in range(0, len(part), size):
            rows = part[start : start + size]
            n = len(rows)
            pad = lambda a, fill, rows=rows, n=n: jnp.pad(a[rows], ((0, size - n), (0, 0)), constant_values=fill)
            chunk = pad(tokens, 0), pad(targets, -1), pad(jnp.asarray(inside), False)
            sums, ledger, g, extra = examine(gpt, *chunk, jnp.asarray(N), tuple(sorted(set(keep))), memory)
            sums = {name: np.asarray(a, np.float64)[: n if name == "losses" else None] for name, a in sums.items()}
            ledger = Ledger(*(np.asarray(entries)[..., :n, :] for entries in ledger))
            found.append((sums, ledger, {name: np.asarray(a)[:, :n] for name, a in extra.items()}))
            gradient = g if gradient is None else jax.tree.map(jnp.add, gradient, g)
        share = N / max(int(scored[part].sum()), 1)
        gradients.append(jax.tree.map(lambda a, share=share: np.asarray(a) * np.asarray(share, a.dtype), gradient))
    sums, ledgers, kept = zip(*found, strict=True)
    losses = np.concatenate([s["losses"] for s in sums])
    return Sweep(
        loss=float(losses.sum() / N),
        sequence_losses=losses / np.maximum(scored.sum(1), 1),
        squares=np.sum([s["squares"] for s in sums], axis=0),
        kinetic=np.sum([s["kinetic"] for s in sums], axis=0) / inside.sum(),
        ledger=Ledger(*(np.concatenate(field, axis=-2) for field in zip(*ledgers, strict=True))),
        learning=from_gradients(gpt.blocks, gradients),
        kept={name: np.concatenate([k[name] for k in kept], axis=1) for name in kept[0]},
    )


def sequences_at_once(gpt: GPT, T: int, memory: Memory) -> int:
    """Sequences whose states and costates, and to store what the layers remember, are about 2^25 numbers."""
    L, H, D = gpt.config.n_layer, gpt.config.n_head, gpt.config.n_embd
    of_token = 2 * (2 * L + 1) * D + (L * (24 * D + 4 * H * T) if memory == "store" else 0)
    return max(1, 2**25 // (of_token * T))


# ---- what needs many passes ----------------------------------------------------------------------------------------------


def transport_of(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], key: PRNGKeyArray) -> Transport:
    """Shares, sliced path and lens losses on a few sequences."""
    X = jax.jit(half_step_states)(gpt, tokens)
    N = int((np.asarray(targets) >= 0).sum())
    lens = eqx.filter_jit(lambda gpt, X, y: token_losses(gpt, X, y).sum() / N)
    flat = X.reshape(X.shape[0], -1, X.shape[-1])
    path, floor = transport.sliced_path(flat, key)
    return Transport(
        np.asarray(transport.mean_shift_share(flat)),
        np.asarray(transport.radial_share(flat)),
        path,
        floor,
        np.asarray([float(lens(gpt, state, targets)) for state in X[::2]]),
    )


def depth_changes(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> tuple[DepthChange, ...]:
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
