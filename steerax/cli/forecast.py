"""`steerax forecast`: the distributions of the next observations."""

from .answers import tell
from .dispatch import one, opened
from .options import ForecastOptions, command


@command
def forecast(options: ForecastOptions) -> None:
    """Forecast the next observations of a sequence. Example: `steerax forecast runs/text-hmm text.txt --steps 5`."""
    model, room, data = opened(options)
    tell(room.forecast(model, one(data, options.number), options), options.json, options.out)
