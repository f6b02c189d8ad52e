"""Units in which every channel has mean zero and spread one, in which models are fitted whatever the data's units are."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ....models.linear_gaussian import LinearGaussianModel


class Units(NamedTuple):
    """Centre and size of each channel and of each input; all in double precision."""

    centre: Float[np.ndarray, " p"]
    size: Float[np.ndarray, " p"]
    input_centre: Float[np.ndarray, " q"]
    input_size: Float[np.ndarray, " q"]

    @classmethod
    def of(
        cls,
        z: Float[np.ndarray, "B T p"],
        mask: Bool[np.ndarray, "B T p"],
        w: Float[np.ndarray, "B T q"],
        inside: Bool[np.ndarray, "B T"],
    ) -> "Units":
        """The units of what is observed of `z` and of the inputs `w`."""
        return cls(*_centre_and_size(z, mask), *_centre_and_size(w, np.broadcast_to(inside[..., None], w.shape)))

    def log_size(self, observed: Int[np.ndarray, " p"]) -> float:
        """What a log-likelihood in these units exceeds that of the data by, which have so many numbers in each channel."""
        return float(observed @ np.log(self.size))

    def into(
        self, model: LinearGaussianModel, D: Float[np.ndarray, "p q"]
    ) -> tuple[LinearGaussianModel, Float[np.ndarray, "p q"]]:
        """A model of the data and weights of its inputs, in these units."""
        centre = self.centre - D @ self.input_centre
        return _rescaled(model, centre, 1 / self.size), D / self.size[:, None] * self.input_size[None]

    def back(
        self, model: LinearGaussianModel, D: Float[np.ndarray, "p q"]
    ) -> tuple[LinearGaussianModel, Float[np.ndarray, "p q"]]:
        """The opposite of `into`."""
        D = D * self.size[:, None] / self.input_size[None]
        centre = self.centre - D @ self.input_centre
        return _rescaled(model, -centre / self.size, self.size), D


def _centre_and_size(
    values: Float[np.ndarray, "B T c"], seen: Bool[np.ndarray, "B T c"]
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation over what is seen; a constant channel has the size of its value, or 1 if that is zero."""
    count = np.maximum(seen.sum((0, 1)), 1)
    largest = np.where(seen, np.abs(values), 0.0).max((0, 1), initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)  # so that no square over- or underflows
    values = np.where(seen, values, 0.0) / unit
    mean = values.sum((0, 1)) / count
    spread = np.sqrt(np.where(seen, (values - mean) ** 2, 0.0).sum((0, 1)) / count)
    constant = spread <= 8 * np.finfo(float).eps
    return mean * unit, np.where(constant, 1.0, spread) * unit


def _rescaled(model: LinearGaussianModel, centre: Any, scale: Any) -> LinearGaussianModel:
    """The model of observations less `centre`, multiplied by `scale`, channel by channel."""
    H, c, R = (np.asarray(a, float) for a in (model.observation, model.observation_offset, model.observation_noise))
    scaled = scale[:, None] * H, scale * (c - centre), scale[:, None] * R * scale[None]
    dtype = model.observation.dtype
    where = lambda m: (m.observation, m.observation_offset, m.observation_noise)
    return eqx.tree_at(where, model, tuple(jnp.asarray(a, dtype) for a in scaled))


def in_units_of_channels(model: LinearGaussianModel, size: Float[np.ndarray, " p"]) -> LinearGaussianModel:
    """A canonical model (see `canonical`) whose leading states, those that a channel shows as they are, get its unit."""
    d = model.n_states
    if d < model.n_channels:
        return model
    units = np.concatenate([size, np.ones(d - model.n_channels)])
    return model.change_basis(jnp.diag(jnp.asarray(units, model.observation.dtype)))
