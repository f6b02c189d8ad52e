"""Cases for workers of executors: functions of a module, as `sweep` takes them."""

import os
import pathlib
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np

import steerax as sx


def precise(case):
    """What the worker computes in: a sum that single precision cannot hold, of an array of the caller, and the process."""
    x, scale = case
    return {"x": x, "sum": jnp.sum(x * scale), "made": jnp.ones(2), "process": os.getpid()}


def impossible(token):
    """The error of a token of probability zero, which has arguments of its own."""
    return sx.filter(sx.HiddenMarkovModel([1.0], [[1.0]], [[1.0, 0.0]]), np.array([0, token])).log_likelihood


class Unlike(Exception):
    """An exception that pickle takes apart and cannot put together."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def unlike(case):
    """An error that cannot be sent as it is."""
    raise Unlike(case, "another")


def unsendable(case):
    """A result that cannot be sent."""
    return lambda: case


def deadly(case):
    """A case that kills its worker, once the others are done or for ever."""
    number, folder, how = case
    if number == 0:
        while how == "after the others" and len(list(pathlib.Path(folder).iterdir())) < 2:
            time.sleep(0.05)
        time.sleep(0.5)  # their results reach the caller
        os.kill(os.getpid(), signal.SIGKILL)
    (pathlib.Path(folder) / str(number)).touch()
    return number * jax.device_count()


def climbed(case):
    """The log-likelihoods of a fit with one restart."""
    states, data, key = case
    options = {"max_iterations": 60, "tolerance": 0.0, "restarts": 1, "progress": False}
    return np.asarray(sx.fit(sx.HMM(states), data, key, **options).log_likelihoods)
