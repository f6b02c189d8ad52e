"""Text survives the way to tokens and back."""

import pytest

import steerax as sx
from steerax._errors import ConfigurationError, DataError
from steerax.transformer.checkpoint import open_checkpoint
from steerax.transformer.tokenizer import BPETokenizer, CharTokenizer

TEXT = "the quick brown fox, the lazy dog\nthe thé — ☃"


def test_characters_come_back():
    tokenizer = CharTokenizer.of(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.n_tokens == len(set(TEXT))
    assert tokenizer.decode([-1]) == "\ufffd"


def test_byte_pairs_come_back_also_for_unseen_text():
    pytest.importorskip("tokenizers")
    tokenizer = BPETokenizer.train([TEXT] * 20, 270)
    for text in (TEXT, "Ωmega  quick\t", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the the")) < 7
    assert tokenizer.encode(TEXT).max() < tokenizer.n_tokens


def test_a_model_folder_keeps_its_tokenizer(tmp_path, key):
    pytest.importorskip("tokenizers")
    for tokenizer in (CharTokenizer.of(TEXT), BPETokenizer.train([TEXT], 260)):
        gpt = sx.GPT(sx.GPTConfig(tokenizer.n_tokens, 4, 1, 1, 4), key=key)
        sx.save_gpt(gpt, tmp_path / "a", tokenizer.to_json(), overwrite=True)
        found = open_checkpoint(tmp_path / "a").tokenizer
        assert found is not None
        assert found.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_rejects_unknown_characters_small_alphabets_and_knows_models_without_text(tmp_path, key):
    with pytest.raises(DataError, match="'z'"):
        CharTokenizer.of("abc").encode("az")
    with pytest.raises(ConfigurationError, match="single character"):
        CharTokenizer(sx.Vocabulary(("ab",)))
    pytest.importorskip("tokenizers")
    with pytest.raises(ConfigurationError, match="256"):
        BPETokenizer.train(["a"], 10)
    sx.save_gpt(sx.GPT(sx.GPTConfig(2, 4, 1, 1, 4), key=key), tmp_path / "a", overwrite=True)
    assert open_checkpoint(tmp_path / "a").tokenizer is None
