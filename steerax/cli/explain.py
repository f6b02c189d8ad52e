"""`steerax explain`: which past observations a prediction comes from."""

from .answers import tell
from .dispatch import one, opened
from .options import ExplainOptions, command


@command
def explain(options: ExplainOptions) -> None:
    """Split a prediction into a prior and one term per past observation.

    Example: `steerax explain runs/text-hmm text.txt`.
    """
    model, room, data = opened(options)
    tell(room.explain(model, one(data, options.number), options), options.json, options.out)
