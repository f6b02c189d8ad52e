"""A file is whole or absent, whatever interrupts its writing."""

import hashlib
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

import steerax as sx
from steerax._errors import CheckpointError
from steerax.runs import files, folder


def test_a_failed_write_leaves_the_old_folder_and_no_debris(tmp_path):
    files.write_folder(tmp_path / "a", lambda beside: files.write_whole(beside / "x", "old"))

    def fail(beside):
        files.write_whole(beside / "x", "new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path / "a", fail)
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_folders_on_the_way_are_made_and_what_is_no_model_is_never_replaced(tmp_path):
    files.write_whole(tmp_path / "a" / "b" / "x", "new")
    files.write_folder(tmp_path / "c" / "d", lambda beside: files.write_whole(beside / "y", "new"))
    assert (tmp_path / "a" / "b" / "x").read_text() == (tmp_path / "c" / "d" / "y").read_text() == "new"
    hmm = sx.models.two_cycle()
    for place in (tmp_path / "a", tmp_path / "a" / "b" / "x"):
        with pytest.raises(CheckpointError, match="not a model folder"):
            sx.save(hmm, place)
    sx.save(hmm, tmp_path / "m")
    sx.save(sx.models.casino(), tmp_path / "m", overwrite=True)
    with pytest.raises(sx.ConfigurationError, match=r"exists already.*overwrite"):
        sx.save(hmm, tmp_path / "m")
    assert sx.load(tmp_path / "m").n_tokens == 6


def test_a_folder_is_replaced_whole(tmp_path):
    files.write_folder(tmp_path / "a", lambda beside: files.write_whole(beside / "x", "old"))
    files.write_folder(tmp_path / "a", lambda beside: files.write_whole(beside / "y", "new"))
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "y"]


def test_arrays_come_back_bit_for_bit(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "scalar": np.asarray(np.pi), "empty": np.zeros((0, 2), np.float32)}
    files.write_arrays(tmp_path / "a.safetensors", arrays)
    found = files.read_arrays(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_rejects_a_file_cut_short(tmp_path, cut):
    files.write_arrays(tmp_path / "a.safetensors", {"a": np.ones(10)})
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:cut])
    with pytest.raises(CheckpointError, match="cut short"):
        files.read_arrays(tmp_path / "a.safetensors")


def test_rejects_a_header_that_points_outside_the_file(tmp_path):
    header = json.dumps({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError):
        files.read_arrays(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000])
def test_rejects_broken_json(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CheckpointError):
        files.read_json(tmp_path / "a.json")


def test_the_hash_tells_dtypes_shapes_and_parts_apart():
    a = np.arange(4)
    hashes = {files.content_hash(x) for x in (a, a.astype(np.int32), a.reshape(2, 2), a[::-1], [0, 1, 2, 3], "")}
    assert len(hashes) == 6
    assert files.content_hash({"a": 1, "b": 2}) == files.content_hash({"b": 2, "a": 1})
    assert files.content_hash(a, a) != files.content_hash(np.concatenate([a, a]))


def test_a_run_keeps_two_checkpoints_and_cuts_its_log_to_the_newest(tmp_path):
    run = folder.RunFolder(tmp_path / "r", {"config": 1})
    for step in (10, 20, 30):
        run.save(step, {"x": np.asarray(step)}, {"reason": "finished"})
        run.log({"step": step})
    run.log({"step": 35})
    with open(tmp_path / "r" / "progress.jsonl", "a") as file:
        file.write('{"step": 3')  # torn by a crash
    assert run.steps() == [20, 30]
    arrays, state = folder.RunFolder(tmp_path / "r", {"config": 1}, resume=True).latest()
    assert arrays["x"] == 30
    assert state["step"] == 30
    assert [r["step"] for r in run.records()] == [10, 20, 30]


def test_rejects_a_run_of_another_configuration(tmp_path):
    run = folder.RunFolder(tmp_path / "r", {"config": 3})
    run = folder.RunFolder(tmp_path / "r", {"config": 1})  # nothing was kept, so the folder is free
    run.save(1, {"x": np.ones(1)}, {})
    with pytest.raises(CheckpointError, match="already holds a run"):
        folder.RunFolder(tmp_path / "r", {"config": 1})
    with pytest.raises(CheckpointError, match="differs in config"):
        folder.RunFolder(tmp_path / "r", {"config": 2}, resume=True)


def test_a_log_of_strange_lines_and_checkpoints_without_a_record(tmp_path):
    run = folder.RunFolder(tmp_path / "r", {"a": 1})
    run.save(3, {"x": np.ones(1)}, {})
    run.log({"step": 2})
    with open(tmp_path / "r" / "progress.jsonl", "a") as file:
        file.write('3\n[1]\n"x"\n{"step": "later"}\nnull\n')
    again = folder.RunFolder(tmp_path / "r", {"a": 1}, resume=True)
    assert again.latest()[1]["step"] == 3
    assert again.records() == [{"step": 2}]
    (tmp_path / "r" / "run.json").write_text('{"a": 1, "steps": "many"}')
    with pytest.raises(CheckpointError, match="differs in steps"):
        folder.RunFolder(tmp_path / "r", {"a": 1, "steps": 5}, resume=True, grows="steps")
    (tmp_path / "r" / "run.json").unlink()
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=r"no run\.json"):
            folder.RunFolder(tmp_path / "r", {"a": 1}, resume=resume)


def test_the_hash_is_that_of_the_documented_bytes():
    """A second program that writes them: certificates of other versions stay valid."""
    a = np.arange(6, dtype=np.int32).reshape(2, 3).T
    record = {"b": [1, None], "a": "é"}
    written = b"array <i4 (3, 2) " + bytes([0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0])
    written += b'\0json {"a": "\\u00e9", "b": [1, null]}\0'
    assert files.content_hash(a, record) == hashlib.sha256(written).hexdigest()


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be opened here")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_names_are_on_the_disk_before_a_write_returns(tmp_path, monkeypatch, kind):
    """Content before the name, the folder that holds the name after it."""
    events, flush, rename = [], os.fsync, os.replace
    number = lambda path: os.stat(path).st_ino
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append(os.fstat(handle).st_ino), flush(handle))[1])
    monkeypatch.setattr(os, "replace", lambda *a: (rename(*a), events.append(f"name {number(a[1])}"))[0])
    place = tmp_path / "a"
    if kind == "file":
        files.write_whole(place, "new")
    else:
        files.write_folder(place, lambda beside: files.write_whole(beside / "x", "new"))
    named = events.index(f"name {number(place)}")
    assert number(place) in events[:named]
    assert number(tmp_path) in events[named:]


def test_where_processes_cannot_be_asked_every_one_may_live(monkeypatch):
    """On Windows the question would end the process that is asked."""
    ended = []
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", kill=lambda *a: ended.append(a)))
    assert files._lives(4_194_305)
    assert not ended
