"""One layer forward: all children of a state, merged where they are equal, with a bound for each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt

from .kernels_numpy import BLOCK, attended, group_masses
from .tables import Reductions, Tables, Target

States = UInt[np.ndarray, "K N n"]
Tick = Callable[[], None]


def _forever() -> None:
    """The clock of work without a limit."""


@dataclass(frozen=True)
class Wave:
    """States, each with one action that leads to it, (index of B, row, row), and a lower bound of its value."""

    states: States
    actions: Int[np.ndarray, "K 3"]
    bounds: Int[np.ndarray, "K"]

    def __len__(self) -> int:
        return len(self.states)

    def take(self, indices: np.ndarray) -> "Wave":
        """Some of the states."""
        return Wave(self.states[indices], self.actions[indices], self.bounds[indices])


def children(state: UInt[np.ndarray, "N n"], tables: Tables) -> Iterator[tuple[States, Int[np.ndarray, "K 3"]]]:
    """Every state one layer can reach, with the action, some matrices at a time; those that attend alike are one."""
    N, n = state.shape
    z = attended(state[None], tables)[0]  # [ND N]
    z = z[tables.direction[:, state].reshape(len(tables.matrices), N, n), np.arange(N)[:, None]]  # [NB N n]
    _, kept = np.unique(z.reshape(len(z), -1), axis=0, return_index=True)
    C, x = tables.levels, tables.cells[state]
    block = max(1, BLOCK // (4 * len(tables.rows) ** 2 * N * n))
    for some in np.split(kept, np.arange(block, len(kept), block)):
        move = tables.move[:, z[some]].transpose(1, 0, 2, 3)  # [b NR N n]
        y0, y1 = ((np.clip(x[..., a] + move, -C, C) + C).astype(np.uint8) for a in (0, 1))
        states = y0[:, :, None] * np.uint8(tables.side) + y1[:, None, :]
        b, k, m = np.indices(states.shape[:3])
        yield states.reshape(-1, N, n), np.stack([some[b], k, m], -1).reshape(-1, 3)


def sequence_keys(states: States, tables: Tables, multisets: bool) -> Int[np.ndarray, "K N"]:
    """One exact integer for each sequence: its first token and the others, as a multiset or in order."""
    rest = np.sort(states[:, :, 1:], axis=-1) if multisets else states[:, :, 1:]
    key = states[:, :, 0].astype(np.int64)
    for i in range(rest.shape[-1]):
        key = key * len(tables.cells) + rest[:, :, i]
    return key


def _swap_coordinates(states: States, tables: Tables) -> States:
    """The states with the two coordinates of every token exchanged."""
    x0, x1 = np.divmod(np.arange(len(tables.cells)), tables.side)
    return (x1 * tables.side + x0).astype(np.uint8)[states]


def merge_rows(rows: Int[np.ndarray, "K N"]) -> Int[np.ndarray, "U"]:
    """The first index of every distinct row: grouped by a 64-bit fingerprint, then verified entry by entry."""
    multipliers = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.int64) * 2 + 1
    with np.errstate(over="ignore"):
        mixed = (rows ^ (rows >> 29)) * multipliers
        fingerprint = (mixed ^ (mixed >> 31)).sum(axis=1)
    _, first, inverse = np.unique(fingerprint, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first][inverse.ravel()], rows):
        _, first = np.unique(rows, axis=0, return_index=True)
    return np.sort(first)


def collision_bounds(keys: Int[np.ndarray, "K N"], target: Target, tick: Tick = _forever) -> Int[np.ndarray, "K"]:
    """Sequences in the same state are never told apart again: the weight of the minority in each group."""
    bounds, block = np.empty(len(keys), np.int64), max(1, BLOCK // (8 * keys.shape[1]))
    for start in range(0, len(keys), block):
        part = slice(start, start + block)
        bounds[part] = (target.total - group_masses(keys[part], target.net)[1].sum(-1)) // 2
        tick()
    return bounds


def expand(
    state: UInt[np.ndarray, "N n"],
    tables: Tables,
    target: Target,
    reductions: Reductions,
    swap: bool,
    tick: Tick = _forever,
) -> Wave:
    """All distinct children of a state with their collision bounds.

    `swap`, whether the class is closed under it; `tick`, called every few hundredths of a second, may raise to end the work.
    """
    parts = []
    for states, actions in children(state, tables):
        keys = canonical = sequence_keys(states, tables, reductions.multisets)
        if reductions.merging and swap and reductions.swap:
            swapped = sequence_keys(_swap_coordinates(states, tables), tables, reductions.multisets)
            canonical = _smaller_rows(keys, swapped)
        parts.append((states, actions, keys, canonical))
        tick()
    states, actions, keys, canonical = (np.concatenate(part) for part in zip(*parts, strict=True))
    if reductions.merging:
        kept = merge_rows(canonical)
        states, actions, keys = states[kept], actions[kept], keys[kept]
        tick()
    bounds = collision_bounds(keys, target, tick) if reductions.collision else np.zeros(len(states), np.int64)
    return Wave(states, actions, bounds)


def _smaller_rows(a: Int[np.ndarray, "K N"], b: Int[np.ndarray, "K N"]) -> Int[np.ndarray, "K N"]:
    """The lexicographically smaller of every pair of rows."""
    rows, first = np.arange(len(a)), (a != b).argmax(1)
    return np.where((b[rows, first] < a[rows, first])[:, None], b, a)
