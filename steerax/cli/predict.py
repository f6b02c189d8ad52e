"""`steerax predict`: what comes next in each sequence, and how well a model predicted it so far."""

from .answers import tell
from .dispatch import opened
from .options import PredictOptions, command


@command
def predict(options: PredictOptions) -> None:
    """Predict the next observation of each sequence. Example: `steerax predict runs/text-hmm text.txt`."""
    model, room, data = opened(options)
    tell(room.predict(model, data, options), options.json, options.out)
