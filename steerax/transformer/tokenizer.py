"""Text to tokens and back: characters always, byte-pair encoding with the `tokenizers` extra.

Both have `n_tokens` codes, `encode(text)`, `decode(tokens)` and `to_json()`, which is stored in the `vocabulary` of a model
folder: the list of characters, or the JSON of a byte-pair tokenizer.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int

from .._errors import CheckpointError, ConfigurationError, DataError
from ..data.vocabulary import Vocabulary


class CharTokenizer:
    """One token per character. `decode(encode(text)) == text` for text of known characters.

    **Arguments:** `vocabulary` of single characters. `encode` raises `DataError` for an unknown character.
    """

    def __init__(self, vocabulary: Vocabulary):
        if long := [s for s in vocabulary.symbols if len(s) != 1]:
            raise ConfigurationError(f"The symbol {long[0]!r} is no single character; use words as tokens elsewhere.")
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, text: str) -> "CharTokenizer":
        """The tokenizer of all characters of a text, in the order of their code points."""
        return cls(Vocabulary(tuple(sorted(set(text)))))

    @property
    def n_tokens(self) -> int:
        """Number of characters."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Int[np.ndarray, "T"]:
        """Codes of the characters."""
        return self.vocabulary.encode(list(text))

    def decode(self, tokens: Iterable) -> str:
        """The text of codes; a missing token (-1) becomes U+FFFD."""
        return "".join("\ufffd" if symbol is None else symbol for symbol in self.vocabulary.decode(tokens))

    def to_json(self) -> list[str]:
        """The characters in order."""
        return list(self.vocabulary.symbols)


class BPETokenizer:
    """Byte-level byte-pair encoding, as GPT-2's: every text can be encoded. Needs the `tokenizers` extra."""

    def __init__(self, inner: Any):
        self.inner = inner

    @classmethod
    def train(cls, texts: Iterable[str], n_tokens: int) -> "BPETokenizer":
        """A tokenizer of at most `n_tokens` codes (at least 256, one per byte) learned from texts."""
        library = _library()
        if n_tokens < 256:
            raise ConfigurationError(f"Byte-pair encoding needs at least 256 tokens, one per byte, not {n_tokens}.")
        inner = library.Tokenizer(library.models.BPE())
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=n_tokens, initial_alphabet=alphabet, show_progress=False)
        inner.train_from_iterator(texts, trainer)
        return cls(inner)

    @classmethod
    def from_json(cls, content: Any, where: str = "the file") -> "BPETokenizer":
        """A tokenizer from the JSON object of `to_json` or of a `tokenizer.json`. **Raises:** `CheckpointError`."""
        library = _library()
        try:
            return cls(library.Tokenizer.from_str(json.dumps(content)))
        except Exception as error:  # the library raises plain Exceptions
            raise CheckpointError(f"The tokenizer in {where} cannot be read ({error}).") from None

    @property
    def n_tokens(self) -> int:
        """Number of codes."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> Int[np.ndarray, "T"]:
        """Codes of the text."""
        return np.asarray(self.inner.encode(text).ids, np.int32)

    def decode(self, tokens: Iterable) -> str:
        """The text of codes."""
        return self.inner.decode([int(token) for token in tokens], skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        """The tokenizer as the library writes it."""
        return json.loads(self.inner.to_str())


def _library() -> Any:
    """The `tokenizers` package. **Raises:** `ConfigurationError` if it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise ConfigurationError("Byte-pair encoding needs `pip install steerax[tokenizers]`.") from None
    return tokenizers


Tokenizer = CharTokenizer | BPETokenizer


def tokenizer_of(vocabulary: Any, where: str) -> Tokenizer | None:
    """The tokenizer that a `vocabulary` in a file describes; `None` if it is neither characters nor byte pairs.

    **Raises:** `CheckpointError` for one that cannot be read, `ConfigurationError` if it needs a missing package.
    """
    if isinstance(vocabulary, dict):
        return BPETokenizer.from_json(vocabulary, where)
    if isinstance(vocabulary, list) and vocabulary and all(isinstance(s, str) and len(s) == 1 for s in vocabulary):
        try:
            return CharTokenizer(Vocabulary(tuple(vocabulary)))
        except DataError as error:
            raise CheckpointError(f"The vocabulary in {where} cannot be used: {error}") from None
    return None
