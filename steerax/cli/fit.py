"""`steerax fit`: learn a model from sequences."""

from .answers import Answer, tell
from .dispatch import room_of
from .options import FitOptions, command


@command
def fit(options: FitOptions) -> None:
    """Learn a model from sequences and save it. Example: `steerax fit text.txt --states 16 --cut 256`."""
    from .._results import RESULTS

    room = room_of(options.model)
    data = room.read(options.data, options.table)
    data = data if options.cut is None else data.cut(options.cut)
    training, held_out = data, None
    if options.held_out > 0 and data.number > 1:
        training, held_out = data.split(options.held_out, options.seed)
    fitted = room.learn(training, options)
    record, lines = room.measured(fitted, training, held_out)
    outcome = RESULTS[fitted.result]
    record |= {
        "model": str(options.folder),
        "iterations": len(fitted.log_likelihoods) - 1,
        "outcome": outcome,
        "states": options.states,
        "order": options.order,
    }
    more = "go on with --resume" if fitted.result == RESULTS.interrupted else ""
    lines += [line for line in (outcome, more, f"model in {options.folder}") if line]
    tell(Answer(record, "\n".join(lines)), options.json)
