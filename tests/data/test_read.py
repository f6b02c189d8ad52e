"""Files become sequences; every fault is one sentence."""

import numpy as np
import pytest

from steerax._errors import DataError
from steerax.data.read import read
from steerax.data.vocabulary import Vocabulary


def test_text_as_characters_and_as_words(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfab a\nb b\n")  # a byte-order mark is not a token
    data = read(path)
    assert data.number == 1
    assert data.vocabulary.symbols == ("\n", " ", "a", "b")
    assert "".join(data.vocabulary.decode(data[0])) == "ab a\nb b\n"
    words = read(path, words=True)
    assert [list(words.vocabulary.decode(w)) for w in words] == [["ab", "a"], ["b", "b"]]


def test_csv_groups_by_sequence_and_keeps_gaps(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('who,token\nx,up\ny,down\nx,\nx,"le,ft\nright"\ny,up\n')
    data = read(path, sequence="who")
    assert data.names == ("x", "y")
    assert data.vocabulary.decode(data[0]) == ["up", None, "le,ft\nright"]
    assert data.vocabulary.decode(data[1]) == ["down", "up"]


def test_integer_columns_take_minus_one_as_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("token\n10\n-1\n9\n\n10\n")
    data = read(path)
    assert data.vocabulary.symbols == ("9", "10")
    np.testing.assert_array_equal(data[0], [1, -1, 0, -1, 1])


def test_csv_values_are_observations(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y,x\n1.5,2\n,3\n")
    data = read(path, values=["x", "y"])
    np.testing.assert_array_equal(data[0], [[2, 1.5], [3, np.nan]])


def test_parquet_equals_csv(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow (extra `parquet`) is absent")
    import pyarrow.parquet as pq

    table = pa.table({"token": pa.array([3, None, 1, 3]), "id": ["a", "a", "b", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("token,id\n3,a\n,a\n1,b\n3,b\n")
    one, two = (read(tmp_path / name, sequence="id") for name in ("a.parquet", "a.csv"))
    np.testing.assert_array_equal(one.values, two.values)
    assert one.vocabulary == two.vocabulary


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 2, -1, 1], [1, -1, -1, -1]]))
    data = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(data.lengths, [4, 1])
    assert data.n_tokens == 3
    np.savez(tmp_path / "b.npz", tokens=np.array([0, 1, 2]), lengths=np.array([2, 1]))
    assert [list(s) for s in read(tmp_path / "b.npz")] == [[0, 1], [2]]
    np.save(tmp_path / "c.npy", np.array([[0.5, np.nan], [1.0, 2.0]]))
    assert [len(s) for s in read(tmp_path / "c.npy")] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("missing.txt", None, {}, "no file"),
        ("empty.txt", b"", {}, "is empty"),
        ("space.txt", b"  \n", {"words": True}, "no token"),
        ("latin.txt", "é".encode("latin-1"), {}, "not UTF-8"),
        ("a.doc", b"x", {}, "suffix"),
        ("a.npy", b"not numpy", {}, "cannot be read"),
        ("a.parquet", b"not parquet", {}, "not a readable parquet"),
        ("a.csv", b"other\n1\n", {}, "no column 'token'"),
        ("a.csv", b"token\n", {}, "no row"),
        ("a.csv", b"token,b\n1\n", {}, "line 2: 1 cells"),
        ("a.csv", b"token\n1.5\n", {}, "1.5"),
        ("a.csv", b"token\ninf\n", {}, "inf"),
        ("a.csv", b"token\n\n\n", {}, "no token"),
        ("a.csv", b"token,s\n1,a\n,b\n", {"sequence": "s"}, "sequence b has no observed"),
        ("a.csv", b"token,s\n1,a\n2,\n", {"sequence": "s"}, "row 2"),
        ("a.csv", b"token\nx\n", {"values": ["token"]}, "not numeric"),
        ("a.csv", b"token\nx\n", {"vocabulary": Vocabulary(("y",))}, "'x' at position 0"),
    ],
)
def test_rejects_unreadable_files(tmp_path, name, content, options, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path / name, **options)


def test_rejects_a_directory_and_pickles(tmp_path):
    with pytest.raises(DataError, match="directory"):
        read(tmp_path)
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled"):
        read(tmp_path / "p.npy")
    np.savez(tmp_path / "q.npz", tokens=np.arange(3), lengths=np.array([1]))
    with pytest.raises(DataError, match="add up"):
        read(tmp_path / "q.npz")
