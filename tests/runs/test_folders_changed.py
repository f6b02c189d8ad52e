"""Folders whose files were changed at random are read or refused in one sentence: models, networks, certificates, runs."""

import json
import shutil

import gpt_twin
import jax
import numpy as np
import pytest
from mutants import changed, refusal
from safetensors.numpy import save_file

import steerax as sx
from steerax import lifted
from steerax.data.read import open_tokens
from steerax.depth.measure.telemetry import history
from steerax.lifted.certificate.export import weights_from_bytes, weights_to_bytes
from steerax.runs.folder import RunFolder
from steerax.transformer.tokenizer import CharTokenizer, tokenizer_of


def _model(folder):
    sx.save(
        sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]], sx.Vocabulary(("a", "b"))),
        folder,
    )


def _series(folder):
    sx.save(sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.5]], [[1.0]], channels=["x"]), folder)


def _gpt(folder):
    sx.save_gpt(sx.GPT(sx.GPTConfig(5, 4, 1, 1, 4), key=jax.random.key(0)), folder)


def _hugging_face(folder):
    gpt_twin.write_hugging_face(folder, gpt_twin.random_state(L=1, D=6, dtype=np.float32))


def _certificate(folder):
    lifted.solve(lifted.tasks.parity(3), 2).save(folder)


def _run(folder):
    run = RunFolder(folder, {"a": 1})
    for step in (1, 2):
        run.save(step, {"x": np.arange(3)}, {"result": "successful"})
        run.log({"step": step})


def _read_run(folder):
    run = RunFolder(folder, {"a": 1}, resume=True)
    return run.latest(), run.records()


def _tokenizer(folder):
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(CharTokenizer.of("abc é").to_json()))


def _read_tokenizer(folder):
    try:
        content = json.loads((folder / "tokenizer.json").read_bytes())
    except ValueError:
        raise sx.CheckpointError("no JSON") from None
    return tokenizer_of(content, "here")


def _telemetry(folder):
    folder.mkdir()
    record = {
        "step": 1,
        "gradient_norm": [1.0, 2.0],
        "weight_norm": [1.0, 2.0],
        "update_ratio": [0.1, 0.2],
        "costate_norm": [1.0] * 5,
    }
    (folder / "t.jsonl").write_text("".join(json.dumps(record | {"step": s}) + "\n" for s in (1, 2, 3)))


def _safetensors(folder):
    folder.mkdir()
    save_file(gpt_twin.random_state(L=1, D=6, dtype=np.float32), folder / "m.safetensors", metadata={"n_head": "3"})


def _codes(folder):
    folder.mkdir()
    np.save(folder / "codes.npy", np.arange(50, dtype=np.uint16) % 7)


def _trits(folder):
    folder.mkdir()
    (folder / "network.trits").write_bytes(
        weights_to_bytes(lifted.R1(3), lifted.solve(lifted.tasks.parity(3), 2).weights)
    )


READERS = {
    "codes": (_codes, lambda folder: open_tokens(folder / "codes.npy")),
    "trits": (_trits, lambda folder: weights_from_bytes((folder / "network.trits").read_bytes())),
    "model": (_model, sx.load),
    "series": (_series, sx.load),
    "gpt": (_gpt, sx.load_gpt),
    "hugging face": (_hugging_face, sx.load_gpt),
    "safetensors": (_safetensors, lambda folder: sx.load_gpt(folder / "m.safetensors")),
    "certificate": (_certificate, lambda folder: lifted.check(lifted.Certificate.load(folder), "witness")),
    "run": (_run, _read_run),
    "tokenizer": (_tokenizer, _read_tokenizer),
    "telemetry": (_telemetry, lambda folder: history(folder / "t.jsonl")),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READERS)
def test_folders_that_were_changed_are_read_or_refused_in_one_sentence(tmp_path, kind):
    write, read = READERS[kind]
    write(tmp_path / "whole")
    files = [
        p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file() and p.name != ".lock"
    ]
    rng, refused = np.random.default_rng(0), 0
    for i in range(300):
        shutil.copytree(tmp_path / "whole", tmp_path / "x")
        path = tmp_path / "x" / files[i % len(files)]
        path.write_bytes(changed(path.read_bytes(), rng, path.suffix == ".json"))
        told = refusal(read, tmp_path / "x")
        refused += told is not None
        assert told is None or (len(told) < 700 and "\n" not in told), told
        shutil.rmtree(tmp_path / "x")
    assert refused > 40
