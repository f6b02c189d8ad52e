"""The same numbers on one device, on eight simulated devices, and over two processes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

EIGHT = """
import json, jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import steerax as sx
from steerax.inference.hmm.kernels.em import em_step
from steerax.inference.hmm.restarts import Prepared
from steerax.inference.hmm.kernels.recursions import filter_checked

hmm = sx.models.random_hmm(jax.random.key(0), 4, 5)
data = sx.sample_sequences(hmm, jax.random.key(1), 16, 30)
_, rows, _ = Prepared.of(data, hmm)
lengths = jnp.asarray(data.lengths)
mesh = jax.make_mesh((8,), ("sequences",), axis_types=(jax.sharding.AxisType.Auto,))
over = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
split = over(rows, None, "sequences"), over(lengths, "sequences")
answers = []
for arguments in ((rows, lengths), split):
    new, found, *_ = em_step(*hmm.arrays, *arguments, sx.Pseudocounts(), 8, 4)
    answers.append([np.asarray(x).tolist() for x in (*new, found.log_likelihood)])
states, log_q = filter_checked(*hmm.arrays, over(data.values.T, None, "sequences"))
answers.append([len(states.sharding.device_set), float(log_q.sum())])
print(json.dumps(answers))
"""

TWO = """
import json, sys, jax, numpy as np
jax.config.update("jax_enable_x64", True)
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import steerax as sx
from steerax.inference.hmm.kernels.em import em_step
from steerax.inference.hmm.restarts import Prepared

hmm = sx.models.random_hmm(jax.random.key(0), 4, 5)
data = sx.sample_sequences(hmm, jax.random.key(1), 16, 30)
_, rows, _ = Prepared.of(data, hmm)
mesh = jax.make_mesh((2,), ("sequences",), axis_types=(jax.sharding.AxisType.Auto,))
def over(x, *spec):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, P(*spec)), lambda i: x[i])
new, found, *_ = em_step(
    *(over(a) for a in hmm.arrays), over(rows, None, "sequences"), over(data.lengths, "sequences"),
    sx.Pseudocounts(), 8, 4
)
print(json.dumps([np.asarray(x.addressable_data(0)).tolist() for x in (*new, found.log_likelihood)]))
"""


def environment(**extra):
    return {**os.environ, "JAX_PLATFORMS": "cpu", **extra}


def test_eight_devices_give_what_one_gives():
    flags = "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"
    out = subprocess.run(
        [sys.executable, "-c", EIGHT], env=environment(XLA_FLAGS=flags), capture_output=True, text=True, timeout=240
    )
    assert out.returncode == 0, out.stderr[-2000:]
    one, eight, (devices, log_likelihood) = json.loads(out.stdout)
    assert devices == 8
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(log_likelihood, one[-1], rtol=1e-12)


@pytest.mark.slow
def test_two_processes_give_what_one_gives():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(port), str(i)],
            env=environment(XLA_FLAGS=""), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    outputs = []
    try:
        outputs = [p.communicate(timeout=240) for p in processes]
    finally:
        for p in processes:
            p.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
    answers = [json.loads(out.strip().splitlines()[-1]) for out, _ in outputs]
    import jax

    import steerax as sx

    hmm = sx.models.random_hmm(jax.random.key(0), 4, 5)
    data = sx.sample_sequences(hmm, jax.random.key(1), 16, 30)
    alone = sx.fit(hmm, data, jax.random.key(0), max_iterations=1, tolerance=0.0)
    for answer in answers:
        for a, b in zip(answer[:3], alone.model.arrays, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(answer[3], alone.log_likelihoods[0], rtol=1e-12)
