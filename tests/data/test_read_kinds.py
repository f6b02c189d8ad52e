"""Kinds of files that people have: each is read as it was meant, and that is said, or refused in one sentence."""

import importlib.util
import io
import zipfile

import numpy as np
import pytest
from mutants import changed, refusal

import steerax as sx


def written(tmp_path, text, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("cells", "symbols"),
    [
        (["007", "7", "07"], ("007", "07", "7")),
        (["9007199254740993", "9007199254740992", "2"], ("2", "9007199254740992", "9007199254740993")),
        (["1_0", "10"], ("10", "1_0")),
        (["1e3", "1000"], ("1000", "1e3")),
        ([" up", "up", "up "], (" up", "up", "up ")),
        (["+1", "1"], ("+1", "1")),
        (["\u2028", "a", '" "'], (" ", "a", "\u2028")),
        (["True", "False"], ("False", "True")),
        (["٣", "3"], ("3", "٣")),
    ],
)
def test_symbols_are_the_texts_of_the_cells(tmp_path, cells, symbols):
    data = sx.read(written(tmp_path, "x,token\n" + "".join(f"1,{c}\n" for c in cells)))
    assert data.vocabulary.symbols == symbols
    assert [s.strip('"') for s in cells] == [s.strip('"') for s in data.vocabulary.decode(data[0])]
    assert not data.has_gaps


@pytest.mark.parametrize("mark", ["NA", "NaN", "nan", "null", "None", "<NA>", "N/A", "#N/A", ""])
def test_common_marks_are_gaps_and_said(tmp_path, mark):
    path = written(tmp_path, f"s,y\na,1\n{mark},{mark}\nb,2\n")
    tokens, numbers = sx.read(path, tokens="s"), sx.read(path, values=["y"])
    assert tokens.vocabulary.symbols == ("a", "b")
    assert list(tokens.mask[0]) == [True, False, True]
    np.testing.assert_array_equal(numbers[0][:, 0], [1, np.nan, 2])
    assert mark == "" or f"'{mark}' read as missing" in tokens.source


def test_declared_marks_are_the_only_ones(tmp_path):
    path = written(tmp_path, "token\nNA\n?\nb\n")
    assert sx.read(path, missing=()).vocabulary.symbols == ("?", "NA", "b")
    assert sx.read(path, missing="?").vocabulary.symbols == ("NA", "b")
    assert "missing" not in sx.read(path, missing=()).source
    whole = written(tmp_path, "token\n-1\n3\n")
    assert sx.read(whole).vocabulary.symbols == ("3",)
    assert "'-1' read as missing" in sx.read(whole).source
    assert sx.read(whole, missing=[]).vocabulary.symbols == ("-1", "3")
    text = written(tmp_path, "ACN\nAN?\n", "t.txt")
    assert sx.read(text, lines=True, missing=["N", "?"]).vocabulary.symbols == ("A", "C")


def test_a_sequence_per_line_of_characters(tmp_path):
    data = sx.read(written(tmp_path, "ACG\r\n\r\nGG\n", "t.txt"), lines=True)
    assert ["".join(data.vocabulary.decode(s)) for s in data] == ["ACG", "GG"]
    with pytest.raises(sx.DataError, match="not as both"):
        sx.read(tmp_path / "t.txt", lines=True, words=True)


@pytest.mark.parametrize(
    ("text", "encoding", "remark"),
    [
        ("d;y\n1;2,5\n2;3,5\n", "utf-8", "';'"),
        ("sep=;\nd;y\n1;2,5\n2;3,5\n", "utf-8", "decimal commas in 'y'"),
        ("d\ty\n1\t2,5\n2\t3,5\n", "utf-16", "UTF-16"),
        ("d|y\n1|2.5\n2|3.5\n", "utf-8-sig", "'|'"),
        ("# log\n\nd,y\n1,2.5\n2,3.5\n", "utf-8", "2 lines before the header"),
        ("\n\nd,y\n1,2.5\n2,3.5\n", "utf-8", "2 lines before"),
        ('"d,e";y\n1;2.5\n2;3.5\n', "utf-32", "';'"),
        ("d,y\n1,2.5 \n2, 3.5\n", "utf-8", ""),
    ],
)
def test_tables_of_other_programs(tmp_path, text, encoding, remark):
    data = sx.read(written(tmp_path, text, encoding=encoding), values="y")
    np.testing.assert_array_equal(data[0][:, 0], [2.5, 3.5])
    assert data.columns == ("y",)
    assert remark in data.source


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ('d,y\n1,"1,234"\n2,"5,678"\n', {"values": "y"}, "thousands"),
        ('d,y\n1,"1,234.5"\n', {"values": "y"}, "thousands"),
        ("d;y\n1;1.234,5\n", {"values": "y", "decimal": ","}, "not numeric"),
        ("y,y\n1,2\n", {"values": "y"}, "two columns are called 'y'"),
        ("id,token,id \n1,2,3\n", {}, "two columns"),
        ("token\n1.5\n", {}, "--model linear"),
        ("token\nabc" + "x" * 5000 + "\n", {"values": "token"}, "…"),
        ("token\na\n", {"delimiter": ";;"}, "one character"),
        ("token\na\n", {"delimiter": '"'}, "no quote"),
        ("token\na\n", {"delimiter": "\n"}, "no line end"),
        ("token\na\n", {"encoding": "klingon"}, "no encoding"),
        ("token\na\n", {"encoding": "hex"}, "no encoding"),
        ("token\n1\n", {"values": "token", "decimal": ",,"}, "decimal sign"),
        ("token,t\na,1\nb,\n", {"time": "t"}, "empty in row 2"),
        ("token,t\na,1\nb,x\n", {"time": "t"}, "numbers or ISO dates"),
        ("token,t\na,1\nb,1\n", {"time": "t"}, "two rows"),
        ("token\nx\n", {"vocabulary": ["a", "b"]}, "'x' at position 0"),
        ("token\n" + "1" * 400 + "e999\n", {"values": "token"}, "finite"),
        ("token,b\n1\n", {}, "line 2: 1 cells"),
        ('token\n"a\n', {}, "not readable"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tmp_path, text, options, words):
    with pytest.raises(sx.DataError, match=words) as told:
        sx.read(written(tmp_path, text), **options)
    assert len(str(told.value)) < 400
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("times", "right", "remark"),
    [
        (["3", "1", "2"], "bca", "sorted"),
        (["1", "2", "5"], "ab__c", "2 absent steps"),
        (["0.1", "0.2", "0.4"], "ab_c", "1 absent step "),
        (["2024-01-01", "2024-02-01", "2024-04-01"], "ab_c", "1 absent"),
        (["2024-01-31", "2024-02-29", "2024-04-30"], "ab_c", "1 absent"),
        (["2024-01", "2024-03", "2024-02"], "acb", "sorted"),
        (["2024-02-28", "2024-02-29", "2024-03-02"], "ab_c", "1 absent"),
        (["9999-10-31", "9999-11-30", "9999-12-31"], "abc", ""),
        (["2020-01-01", "2021-01-01", "2022-01-01"], "abc", ""),
        (["2024-01-01T00:00:00+00:00", "2024-01-01T02:00:00+01:00", "2024-01-01T03:00:00Z"], "ab_c", "1 absent"),
        (["1", "2", "1000"], "abc", "only order"),
        (["1", "1.5", "2.7"], "abc", "only order"),
    ],
)
def test_times_order_rows_and_absent_steps_are_gaps(tmp_path, times, right, remark):
    path = written(
        tmp_path, "token,t,y\n" + "".join(f"{s},{t},{i}\n" for i, (s, t) in enumerate(zip("abc", times, strict=True)))
    )
    data = sx.read(path, time="t")
    assert "".join(s or "_" for s in data.vocabulary.decode(data[0])) == right
    assert remark in data.source
    numbers = sx.read(path, time="t", values="y")[0][:, 0]
    np.testing.assert_array_equal(numbers, [np.nan if s == "_" else "abc".index(s) for s in right])


def test_every_sequence_has_its_own_times(tmp_path):
    path = written(tmp_path, "who,token,t\nx,a,2\ny,c,10\nx,b,1\ny,d,12\nx,a,3\n")
    data = sx.read(path, sequence="who", time="t")
    assert [data.vocabulary.decode(s) for s in data] == [["b", "a", "a"], ["c", None, "d"]]
    assert data.names == ("x", "y")


def test_sizes_are_looked_at_before_the_data(tmp_path):
    np.save(tmp_path / "v.npy", np.array([1, 10**7]))
    with pytest.raises(sx.DataError, match="number the tokens anew"):
        sx.read(tmp_path / "v.npy")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    (tmp_path / "h.npy").write_bytes(header.getvalue())
    with pytest.raises(sx.DataError, match="promises"):
        sx.read(tmp_path / "h.npy")
    with (
        zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(1100):
            file.write(bytes(2**20))
    with pytest.raises(sx.DataError, match="unpacks to"):
        sx.read(tmp_path / "b.npz")
    for lengths in ([-2, 8], [0, 6], [2.5, 3.5], ["a", "b"], [[6]], [2**62, 2**62]):
        np.savez(tmp_path / "l.npz", tokens=np.arange(6), lengths=np.array(lengths))
        with pytest.raises(sx.DataError, match="whole numbers above 0"):
            sx.read(tmp_path / "l.npz")
    for array in (
        np.array(["a", "b"]),
        np.array([b"a"]),
        np.array(["2024-01-01"], "datetime64[D]"),
        np.zeros(2, "i4,f4"),
        np.array([1j]),
    ):
        np.save(tmp_path / "s.npy", array)
        with pytest.raises(sx.DataError, match="neither tokens"):
            sx.read(tmp_path / "s.npy")


def test_whole_numbers_of_a_file_are_numbers_where_numbers_are_wanted(tmp_path):
    np.save(tmp_path / "n.npy", np.array([3, -1, 5]))
    np.testing.assert_array_equal(sx.read(tmp_path / "n.npy", values="y")[0][:, 0], [3, -1, 5])


def _files(tmp_path):
    """name -> (content, options) of a file of every format."""
    np.save(tmp_path / "a.npy", np.arange(12).reshape(3, 4))
    np.savez(tmp_path / "a.npz", tokens=np.arange(6), lengths=np.array([2, 4]))
    np.savez_compressed(tmp_path / "b.npz", x=np.arange(50.0), y=np.ones(3))
    have_arrow = importlib.util.find_spec("pyarrow") is not None
    if have_arrow:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"token": [1, None, 3] * 9, "s": ["a", "b", "c"] * 9}), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("the cat é sat\non the mat\n")
    (tmp_path / "a.csv").write_text('token,s,y,t\n"a",1,2.5,2024-01-01\nb,1,NA,2024-01-03\nc,2,1,2024-01-01\n')
    (tmp_path / "a.tsv").write_text("token\ty\n1\t2\n-1\t3,5\n")
    options = {
        "a.txt": [{}, {"lines": True}, {"words": True, "missing": ["the"]}],
        "a.csv": [{}, {"sequence": "s"}, {"values": ["y"]}, {"time": "t", "sequence": "s"}],
        "a.tsv": [{}, {"values": ["y"]}],
    }
    return [(name, (tmp_path / name).read_bytes(), options.get(name, [{}, {"values": ["x"]}]))
            for name in ("a.npy", "a.npz", "b.npz", *(["a.parquet"] if have_arrow else []), "a.txt", "a.csv", "a.tsv")]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # NumPy and pyarrow warn of some torn files before they raise
@pytest.mark.parametrize("number", [300])
def test_files_that_were_changed_are_read_or_refused_in_one_sentence(tmp_path, number):
    rng, refused, read = np.random.default_rng(0), 0, 0
    for name, content, options in _files(tmp_path):
        for i in range(number):
            (tmp_path / name).write_bytes(changed(content, rng))
            told = refusal(sx.read, tmp_path / name, **options[i % len(options)])
            refused, read = refused + (told is not None), read + (told is None)
            assert told is None or (len(told) < 600 and "\n" not in told)
    assert refused > 300
    assert read > 100


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.txt", {"sequence": "s"}),
        ("t.txt", {"time": "t"}),
        ("t.txt", {"delimiter": ","}),
        ("t.csv", {"lines": True}),
        ("t.csv", {"words": True}),
        ("t.npy", {"missing": "NA"}),
        ("t.npy", {"encoding": "utf-8"}),
    ],
)
def test_options_that_say_nothing_about_a_file_are_refused(tmp_path, name, options):
    np.save(tmp_path / "t.npy", np.arange(3))
    (tmp_path / "t.txt").write_text("abc")
    (tmp_path / "t.csv").write_text("token\na\n")
    sx.read(tmp_path / name)
    with pytest.raises(sx.DataError, match=f"{next(iter(options))} says nothing"):
        sx.read(tmp_path / name, **options)


def test_a_row_of_a_million_times_is_told_at_once(tmp_path):
    from steerax.data.times import in_order

    times = [str(i) for i in range(200_000)] + ["7"]
    with pytest.raises(sx.DataError, match="two rows of sequence 0 have the time '7'"):
        in_order("t", times, {"0": list(range(len(times)))}, [])
