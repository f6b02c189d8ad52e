"""What a user can be told: one sentence that says what is wrong, where, and what to try."""

from typing import Any


class SteeraxError(ValueError):
    """Base of every error a user can cause. The command line prints these as one sentence and exits with 2.

    A text that quotes very much, or several lines of another program, is cut and put on one line.
    """

    def __init__(self, message: str = ""):
        text = " ".join(str(message).splitlines())
        super().__init__(text if len(text) <= 600 else f"{text[:400]} … {text[-150:]}")


class DataError(SteeraxError):
    """The data cannot be used as they are: a file, a token, a length, a missing value."""


class ImpossibleTokenError(DataError):
    """A token, or an observation of a model of numbers, has probability zero under the model, given those before it.

    **Attributes:** `sequence` (index in the batch), `position` (0-based), `token` (its code, or the observation as a text).
    """

    def __init__(self, sequence: int, position: int, token: int | str, noun: str = "Token"):
        self.sequence, self.position, self.token, self.noun = sequence, position, token, noun
        check = "the model and the vocabulary" if noun == "Token" else "the model"
        super().__init__(
            f"{noun} {token} at position {position} of sequence {sequence} has probability zero under the model given "
            f'the {noun.lower()}s before it; check {check}, or pass on_impossible="skip" to step over it.'
        )

    def __reduce__(self):  # so that it reaches the caller from another process
        return type(self), (self.sequence, self.position, self.token, self.noun)


class CheckpointError(SteeraxError):
    """A model or a run folder cannot be read: missing, torn, of another kind, or of a newer format."""


class ConfigurationError(SteeraxError):
    """An argument or option has a value that cannot work, alone or together with another."""


class WorkerError(SteeraxError):
    """A worker of an executor died (killed, or out of memory).

    **Attributes:** `finished`, what had been computed before: number of the case → result.
    """

    def __init__(self, finished: dict[int, Any], number: int, kept: str = "are in `finished` of this error"):
        self.finished, self.number, self.kept = finished, number, kept
        super().__init__(
            f"A worker died (killed, or out of memory) while {number} results were computed; the {len(finished)} that were ready "
            f"{kept}. Use fewer workers or more memory."
        )

    def __reduce__(self):
        return type(self), (self.finished, self.number, self.kept)
