"""The canonical form of a model."""

import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import joint_distribution, random_model

from steerax.inference.linear.select import canonical


@pytest.mark.parametrize(("d", "p"), [(1, 2), (2, 2), (3, 2)])
def test_the_canonical_form_keeps_the_distribution_and_forgets_the_basis(d, p):
    model = random_model(8, d=d, p=p, order=2)
    other = model.change_basis(jnp.asarray(np.random.default_rng(0).normal(size=(d, d)) + 2 * np.eye(d)))
    np.testing.assert_allclose(joint_distribution(canonical(other), 5)[3], joint_distribution(model, 5)[3], atol=1e-11)
    if d <= p + 1:  # one hidden direction is fixed up to its sign
        np.testing.assert_allclose(np.abs(canonical(other).transition), np.abs(canonical(model).transition), atol=1e-9)
