"""Two processes that share a batch make the steps of one."""

import os
import socket
import subprocess
import sys

import pytest

CODE = """
import sys
import jax, numpy as np, optax
from jax.experimental.multihost_utils import sync_global_devices
port, index, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
import steerax as sx

def cycle(key, n):
    return (jax.random.randint(key, (16, 1), 0, 3) + jax.numpy.arange(9)[None, :]) % 3

gpt = sx.GPT(sx.GPTConfig(3, 8, 1, 2, 8), key=jax.random.key(1))
alone = sx.train_gpt(gpt, cycle, 10, jax.random.key(0), optax.sgd(0.5))
both = dict(devices=jax.devices(), run_folder=folder, save_every=5)
half = sx.train_gpt(gpt, cycle, 10, jax.random.key(0), optax.sgd(0.5), every=5, hooks=[lambda s: {"stop": 1}], **both)
assert half.step == 5 and jax.device_count() == 2
sync_global_devices("saved")
run = sx.train_gpt(gpt, cycle, 10, jax.random.key(0), optax.sgd(0.5), resume=True, **both)
np.testing.assert_allclose(run.losses, alone.losses, rtol=1e-5)
"""


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_and_share_a_run_folder(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    start = lambda i: subprocess.Popen(
        [sys.executable, "-c", CODE, str(port), str(i), str(tmp_path / "run")], env=env, stderr=subprocess.PIPE
    )
    processes = [start(0), start(1)]
    for process in processes:
        _, error = process.communicate(timeout=280)
        assert process.returncode == 0, error.decode()[-3000:]
