"""The same numbers on one device, on eight simulated devices, and over two processes; each device holds its share only."""

import concurrent.futures
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import steerax as sx
from steerax.inference import devices

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "support" / "device_cases.py"
EIGHT = "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"
HMM = sx.models.random_hmm(jax.random.key(0), 3, 4)
DATA = sx.sample_sequences(HMM, jax.random.key(1), 5, 12)


def start(*arguments, flags=""):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_ended_well(*processes):
    try:
        outputs = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
        assert out.strip().endswith("same")


def test_each_of_eight_devices_holds_its_share_and_counting_moves_sums_only():
    assert_ended_well(start("shares", flags=EIGHT))


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_eight_devices_give_what_one_gives():
    assert_ended_well(start("all", flags=EIGHT))


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_eight_devices_give_what_one_gives_of_numbers():
    assert_ended_well(start("numbers", flags=EIGHT))


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_two_processes_give_what_one_gives(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = str(s.getsockname()[1])
    assert_ended_well(*(start("two", port, str(i), str(tmp_path / "run")) for i in range(2)))


@pytest.mark.slow
def test_one_device_by_name_gives_what_no_device_gives():
    spread, options = DATA.over(), {"max_iterations": 1, "restarts": 1, "progress": False}
    assert spread.devices == tuple(jax.devices())
    np.testing.assert_allclose(sx.filter(HMM, spread).predicted, sx.filter(HMM, DATA).predicted, rtol=1e-12)
    alone, found = sx.fit(sx.HMM(2), DATA, **options), sx.fit(sx.HMM(2), spread, **options)
    np.testing.assert_allclose(found.log_likelihoods, alone.log_likelihoods, rtol=1e-12)


@pytest.mark.slow
def test_inside_jit_data_over_devices_give_the_same():
    def of(model, data):
        return sx.filter(model, data).log_likelihood, sx.smooth(model, data).smoothed

    for alone, found in zip(*(jax.jit(lambda m, d=d: of(m, d))(HMM) for d in (DATA, DATA.over())), strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-12)


def test_parts_of_data_stay_over_their_devices():
    spread = DATA.over()
    parts = [spread.select([0, 2]), *spread.split(0.4), spread.cut(5)]
    assert all(part.devices == spread.devices for part in parts)


def test_filled_up_sequences_are_copies_or_what_is_asked_for():
    mesh = devices.mesh_of(DATA.over())
    assert devices.spread(mesh, DATA.values, 0).shape == DATA.values.shape
    assert devices.mesh_of(devices.spread(mesh, DATA.values, 1)) == mesh
    assert devices.mesh_of(DATA) is devices.mesh_of(DATA.values) is None


def test_rejects_no_devices_two_of_the_same_and_an_executor_beside_them():
    for wrong in ([], ["cpu"], jax.devices() * 2, 2, "cpu", 0.5, object(), [[0]], [*jax.devices(), None], {}):
        with pytest.raises(sx.DataError, match="devices"):
            DATA.over(wrong)
    assert DATA.over(jax.devices()[0]).devices == (jax.devices()[0],)
    with pytest.raises(sx.ConfigurationError, match="executor"):
        sx.fit(sx.HMM(2), DATA.over(), executor=object())
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(sx.ConfigurationError, match="devices"):
        sx.select([sx.HMM(2)], DATA.over(), executor=pool)
