"""A model and a series with gaps, whole and partial."""

import jax
import numpy as np
import pytest
from linear_oracles import random_model


@pytest.fixture(scope="module")
def gappy():
    model = random_model(7, d=2, p=2, order=3, offset=True)
    z = np.array(model.sample(jax.random.key(1), 18)[1])
    z[4, 0], z[9:11] = np.nan, np.nan
    return model, z
