"""One door for data: whatever holds a sequence gives what its array gives, in every verb."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.data.convert import as_sequences, converted

pd = pytest.importorskip("pandas", reason="pandas is absent")
pa = pytest.importorskip("pyarrow", reason="pyarrow (extra `parquet`) is absent")
try:
    import polars as pl
except ImportError:
    pl = None
SYMBOLS = sx.Vocabulary(("a", "b", "c"))
CHAIN = sx.models.random_hmm(jax.random.key(0), 2, 3)
CHAIN = sx.HiddenMarkovModel(CHAIN.initial, CHAIN.transition, CHAIN.emission, SYMBOLS)
LINEAR = sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.5]], [[1.0]])
WIDE = sx.LinearGaussianModel(
    [0.0], [[1.0]], [[[0.9]]], [[1.0], [0.5]], [[0.5]], np.eye(2), channels=("x", "y")
)  # fmt: skip
CODES = np.array([0, 2, -1, 1])
NUMBERS = np.array([1.0, 2.0, np.nan, -1.0])
PAIRS = np.array([[1.0, 2.0], [np.nan, 3.0], [0.5, -1.0]])


class Tensor:
    """What steerax uses of a tensor of torch."""

    def __init__(self, array):
        self.array, self.dtype, self.ndim = array, f"torch.{array.dtype}", array.ndim

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


ONE_OF_TOKENS = {
    "list": [0, 2, -1, 1],
    "tuple": (0, 2, -1, 1),
    "gap as None": [0, 2, None, 1],
    "gap as NaN": [0, 2, float("nan"), 1],
    "small integers": CODES.astype(np.int8),
    "unsigned, masked": np.ma.masked_array(np.array([0, 2, 1, 1], np.uint8), mask=[0, 0, 1, 0]),
    "masked": np.ma.masked_array([0, 2, 1, 1], mask=[0, 0, 1, 0]),
    "symbols": ["a", "c", None, "b"],
    "array of symbols": np.array(["a", "c", None, "b"], object),
    "jax": jnp.asarray(CODES),
    "torch": Tensor(CODES),
    "pandas": pd.Series(CODES),
    "pandas, another index": pd.Series(CODES, index=[9, 7, 8, 1]),
    "pandas, gap": pd.Series([0, 2, None, 1]),
    "pandas, nullable": pd.Series([0, 2, pd.NA, 1], dtype="Int64"),
    "pandas, texts": pd.Series(["a", "c", None, "b"]),
    "pandas, categories": pd.Series(["a", "c", None, "b"], dtype="category"),
    "pandas frame": pd.DataFrame({"token": ["a", "c", None, "b"]}),
    "arrow": pa.array([0, 2, None, 1]),
    "arrow, chunks": pa.chunked_array([["a", "c"], [None, "b"]]),
    "arrow table": pa.table({"token": ["a", "c", None, "b"]}),
}
ONE_OF_NUMBERS = {
    "list": [1.0, 2.0, None, -1.0],
    "whole numbers": [1, 2, None, -1],
    "masked whole numbers": np.ma.masked_array([1, 2, 50, -1], mask=[0, 0, 1, 0]),
    "masked": np.ma.masked_array([1.0, 2.0, 50.0, -1.0], mask=[0, 0, 1, 0]),
    "float32": NUMBERS.astype(np.float32),
    "column": NUMBERS[:, None],
    "jax": jnp.asarray(NUMBERS),
    "torch": Tensor(NUMBERS),
    "pandas": pd.Series(NUMBERS),
    "pandas, nullable": pd.Series([1, 2, pd.NA, -1], dtype="Int64"),
    "pandas frame": pd.DataFrame({"y": NUMBERS}),
    "arrow": pa.array([1.0, 2.0, None, -1.0]),
    "arrow table": pa.table({"y": [1, 2, None, -1]}),
}
TOKENS_OF_POLARS = {
    "codes": lambda: pl.Series([0, 2, None, 1]),
    "small integers": lambda: pl.Series([0, 2, None, 1], dtype=pl.Int8),
    "texts": lambda: pl.Series(["a", "c", None, "b"]),
    "categories": lambda: pl.Series(["a", "c", None, "b"], dtype=pl.Categorical),
    "declared categories": lambda: pl.Series(["a", "c", None, "b"], dtype=pl.Enum(["c", "a", "b"])),
    "frame": lambda: pl.DataFrame({"token": ["a", "c", None, "b"]}),
    "frame of codes": lambda: pl.DataFrame({"token": [0, 2, None, 1]}),
    "lazy frame": lambda: pl.LazyFrame({"token": ["a", "c", None, "b"]}),
}
NUMBERS_OF_POLARS = {
    "numbers": lambda: pl.Series([1.0, 2.0, None, -1.0]),
    "NaN": lambda: pl.Series(NUMBERS),
    "whole numbers": lambda: pl.Series([1, 2, None, -1]),
    "float32": lambda: pl.Series([1.0, 2.0, None, -1.0], dtype=pl.Float32),
    "decimals": lambda: pl.Series(["1", "2", None, "-1"]).cast(pl.Decimal(10, 2)),
    "frame": lambda: pl.DataFrame({"y": [1, 2, None, -1]}),
    "lazy frame": lambda: pl.LazyFrame({"y": [1.0, 2.0, None, -1.0]}),
}
VERBS_OF_TOKENS = {
    "filter": lambda d: sx.filter(CHAIN, d).predicted,
    "smooth": lambda d: sx.smooth(CHAIN, d).smoothed,
    "dual_filter": lambda d: sx.dual_filter(CHAIN, d).predicted,
    "explain": lambda d: sx.explain(CHAIN, d).weights,
    "forecast": lambda d: sx.forecast(CHAIN, d, 2).probabilities,
    "score": lambda d: sx.score(CHAIN, d).cross_entropy,
    "fit": lambda d: sx.fit(CHAIN, d, max_iterations=1, progress=False).log_likelihood,
    "represent": lambda d: sx.represent(sx.next_token_predictor(CHAIN, 1), d, 3).values,
}
VERBS_OF_NUMBERS = {
    "filter": lambda d: sx.filter(LINEAR, d).log_likelihood,
    "smooth": lambda d: sx.smooth(LINEAR, d).smoothed.mean,
    "dual_filter": lambda d: sx.dual_filter(LINEAR, d).predicted.mean,
    "explain": lambda d: sx.explain(LINEAR, d).weights,
    "forecast": lambda d: sx.forecast(LINEAR, d, 2).mean,
    "score": lambda d: sx.score(LINEAR, d).cross_entropy,
}


@pytest.mark.parametrize("verb", VERBS_OF_TOKENS)
def test_tokens_come_in_as_anything(verb):
    right = np.asarray(VERBS_OF_TOKENS[verb](CODES))
    for name, data in ONE_OF_TOKENS.items():
        np.testing.assert_array_equal(np.asarray(VERBS_OF_TOKENS[verb](data)), right, err_msg=name)


@pytest.mark.parametrize("verb", VERBS_OF_NUMBERS)
def test_numbers_come_in_as_anything(verb):
    right = np.asarray(VERBS_OF_NUMBERS[verb](NUMBERS))
    for name, data in ONE_OF_NUMBERS.items():
        np.testing.assert_allclose(np.asarray(VERBS_OF_NUMBERS[verb](data)), right, rtol=1e-6, err_msg=name)


def test_data_of_polars_come_in_as_those_of_pandas():
    pytest.importorskip("polars", reason="polars is absent")
    right = np.asarray(sx.filter(CHAIN, CODES).predicted)
    for name, make in TOKENS_OF_POLARS.items():
        np.testing.assert_array_equal(sx.filter(CHAIN, make()).predicted, right, err_msg=name)
    right = sx.filter(LINEAR, NUMBERS).log_likelihood
    for name, make in NUMBERS_OF_POLARS.items():
        np.testing.assert_allclose(sx.filter(LINEAR, make()).log_likelihood, right, rtol=1e-6, err_msg=name)
    frame = pl.DataFrame({"x": [1.0, None, 0.5], "y": [2.0, 3.0, -1.0]})
    for data in (frame, frame.lazy()):
        np.testing.assert_array_equal(sx.filter(WIDE, data).predicted.mean, sx.filter(WIDE, PAIRS).predicted.mean)
    with pytest.raises(sx.DataError, match="fitted to x, y"):
        sx.filter(WIDE, frame.select("y", "x"))
    several = [pl.Series(["a", "c", "b"]), pl.Series(["b"])]
    np.testing.assert_array_equal(converted(several, "tokens", SYMBOLS).values, [[0, 2, 1], [1, -1, -1]])
    assert sx.fit(sx.LinearGaussian(1), pl.concat([frame] * 20), max_iterations=2, progress=False).model.channels == (
        "x",
        "y",
    )


def test_a_frame_of_several_columns_is_no_sequence_of_tokens():
    columns = {"x": [1.0, 0.0], "y": [2.0, 1.0]}
    frames = [pd.DataFrame(columns), pa.table(columns), *([pl.DataFrame(columns)] if pl else [])]
    for frame in frames:
        for verb in (*VERBS_OF_TOKENS.values(), lambda d: sx.fit(sx.HMM(2), d)):
            with pytest.raises(sx.DataError, match="the columns x, y; tokens are one column"):
                verb(frame)


def test_strings_are_sequences_of_characters():
    right = sx.filter(CHAIN, np.array([0, 2, 1])).predicted
    np.testing.assert_array_equal(sx.filter(CHAIN, "acb").predicted, right)
    several = sx.filter(CHAIN, [list("acb"), list("ca")]).predicted
    np.testing.assert_array_equal(several[0], right)
    fitted = sx.fit(sx.HMM(2), "abracadabra", max_iterations=2, progress=False).model
    assert fitted.vocabulary.symbols == ("a", "b", "c", "d", "r")
    np.testing.assert_array_equal(sx.filter(fitted, "bard").predicted, sx.filter(fitted, [1, 0, 4, 3]).predicted)


def test_several_sequences_come_in_as_anything():
    right = sx.Sequences.from_arrays([np.array([0, 2, 1]), np.array([1])])
    for data in (
        [[0, 2, 1], [1]],
        [np.array([0, 2, 1]), [1]],
        (pd.Series([0, 2, 1]), pd.Series([1])),
        [list("acb"), ["b"]],
        [jnp.array([0, 2, 1]), jnp.array([1])],
        [Tensor(np.array([0, 2, 1])), Tensor(np.array([1]))],
    ):
        found = converted(data, "tokens", SYMBOLS)
        np.testing.assert_array_equal(found.values, right.values)
        np.testing.assert_array_equal(found.lengths, right.lengths)
    rows = np.array([[0, 2, 1], [1, 1, -1]])
    np.testing.assert_array_equal(sx.filter(CHAIN, rows).predicted[0], sx.filter(CHAIN, rows[0]).predicted)
    stacked = np.stack([PAIRS, PAIRS])
    np.testing.assert_allclose(sx.filter(WIDE, stacked).predicted.mean[1], sx.filter(WIDE, PAIRS).predicted.mean)
    np.testing.assert_allclose(sx.filter(WIDE, PAIRS.tolist()).predicted.mean, sx.filter(WIDE, PAIRS).predicted.mean)
    frames = [pd.DataFrame(PAIRS, columns=["x", "y"])] * 2
    np.testing.assert_allclose(sx.filter(WIDE, frames).predicted.mean[1], sx.filter(WIDE, PAIRS).predicted.mean)


@pytest.mark.slow
def test_models_remember_what_they_were_fitted_on(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["sales", "temp"])
    fitted = sx.fit(sx.LinearGaussian(1), frame, max_iterations=2, progress=False).model
    assert fitted.channels == ("sales", "temp")
    sx.save(fitted, tmp_path / "m")
    again = sx.load(tmp_path / "m")
    assert again.channels == fitted.channels
    sx.filter(again, frame)
    for other in (frame[["temp", "sales"]], frame.rename(columns={"temp": "t"})):
        for verb in (
            sx.filter,
            sx.smooth,
            sx.dual_filter,
            sx.explain,
            sx.score,
            lambda m, d: sx.forecast(m, d, 1),
            sx.fit,
        ):
            with pytest.raises(sx.DataError, match="fitted to sales, temp"):
                verb(again, other)
    np.testing.assert_allclose(
        sx.recalibrate(again, frame).process_noise, sx.recalibrate(again, frame.to_numpy()).process_noise
    )
    with pytest.raises(sx.DataError, match="fitted to sales, temp"):
        sx.recalibrate(again, frame[["temp", "sales"]])
    alone = sx.fit(sx.LinearGaussian(1), frame[["temp"]].round().astype(int), max_iterations=2, progress=False).model
    assert alone.channels == ("temp",)
    other = sx.Sequences.from_arrays([np.array([0, 1, 1])], sx.Vocabulary(("c", "a")))
    right = sx.filter(CHAIN, np.array([[2, 0, 0]]))
    np.testing.assert_array_equal(sx.filter(CHAIN, other).predicted, right.predicted)
    unknown = sx.Sequences.from_arrays([np.array([0, 1, 1])], sx.Vocabulary(("c", "z")))
    for verb in (sx.filter, sx.smooth, sx.dual_filter, sx.explain, sx.score, lambda m, d: sx.forecast(m, d, 1), sx.fit):
        with pytest.raises(sx.DataError, match="'z'"):
            verb(CHAIN, unknown)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (["a", "z"], "'z' at position 1"),
        (["a", 1], "stands 1 of type int"),
        ([[0, 1], ["a"]], "some are symbols"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "frame\\['a'\\]"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns"),
        (object(), "no sequence|integer codes"),
        ({"a": [1]}, "no sequence|integer codes"),
        ([0.5, 1.0], "integer codes"),
        (pd.to_datetime(pd.Series(["2024-01-01"])), "no sequence|integer codes|codes"),
        (None, "no sequence|integer codes|codes"),
        ([1 << 70], "codes"),
        ([[[0]]], "shape|one integer|rank"),
    ],
)
def test_what_is_no_sequence_is_one_sentence(data, words):
    with pytest.raises(sx.DataError, match=words) as told:
        sx.filter(CHAIN, data)
    assert "\n" not in str(told.value)


def test_symbols_without_a_vocabulary_are_refused():
    nameless = sx.models.random_hmm(jax.random.key(0), 2, 3)
    for data in ("ab", ["a", "b"], [["a"], ["b"]]):
        with pytest.raises(sx.DataError, match="nothing says their codes"):
            sx.filter(nameless, data)


def test_networks_read_through_the_same_door():
    gpt = sx.GPT(sx.GPTConfig(4, 6, 1, 1, 8, missing=True), key=jax.random.key(0))
    rows = np.array([[0, 1, 2, 3], [3, -1, 1, 0]])
    right = sx.depth.mean_loss(gpt, rows)
    hidden = np.ma.masked_array(np.where(rows < 0, 2, rows), mask=rows < 0)
    for data in (rows.tolist(), hidden, Tensor(rows), sx.Sequences.from_arrays(list(rows))):
        assert sx.depth.mean_loss(gpt, data) == right
        losses = sx.train_gpt(gpt, data, 2, 0, batch_size=2, progress=False).losses
        assert np.isfinite(losses).all()
    assert as_sequences([0.5, 1]).values.shape == (1, 2, 1)
