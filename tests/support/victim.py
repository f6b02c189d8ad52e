"""A training run that a test kills: `python victim.py FOLDER STEPS`; prints the losses if it lives to its end."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import steerax as sx


def cycle(key, n):
    return (jax.random.randint(key, (4, 1), 0, 3) + jnp.arange(5)[None, :]) % 3


if __name__ == "__main__":
    folder, steps = sys.argv[1], int(sys.argv[2])
    gpt = sx.GPT(sx.GPTConfig(3, 4, 1, 1, 4), key=jax.random.key(1))
    optimizer = optax.adam(1e-2)
    run = sx.train_gpt(
        gpt, cycle, steps, jax.random.key(0), optimizer, every=3, save_every=3, run_folder=folder, resume=True
    )
    np.save(sys.stdout.buffer, run.losses)
