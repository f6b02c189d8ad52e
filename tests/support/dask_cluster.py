"""Sweeps, selection, a fit and `reproduce` on two workers of dask, one of which is killed in the middle; prints what they gave
and what this process alone gives."""

import json
import os
import pathlib
import signal
import sys
import time

import jax
import numpy as np
from distributed import Client, LocalCluster
from worker_cases import climbed, deadly

import steerax as sx
from steerax.experiments.runner import reproduce


def main(folder: pathlib.Path):
    jax.config.update("jax_enable_x64", True)
    hmm = sx.models.random_hmm(jax.random.key(0), 3, 5)
    data = sx.sample_sequences(hmm, jax.random.key(1), 20, 50)
    cases = [(4, data, jax.random.key(i)) for i in range(8)]
    kinds, restarts = [sx.HMM(2), sx.HMM(3)], {"restarts": 3, "max_iterations": 25, "screening": 10, "progress": False}
    answers = {"numbers": []}
    local = [climbed(case) for case in cases], sx.select(kinds, data, key=1, **restarts)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        victim, *_ = before = list(client.run(os.getpid).values())
        killed = []

        def kill_one(i, result):
            if not killed:
                os.kill(victim, signal.SIGKILL)
                killed.append(i)

        executor = client.get_executor()
        found = sx.sweep(climbed, cases, executor, kill_one)
        while len(after := list(client.run(os.getpid).values())) < 2:  # dask starts another one
            time.sleep(0.1)
        answers["killed"] = victim in before and victim not in after
        selection = sx.select(kinds, data, key=1, executor=executor, **restarts)
        for kind in (kinds[1], sx.LinearGaussian(1)):
            series = data if kind is kinds[1] else np.random.default_rng(0).normal(size=(60, 2))
            few = restarts if kind is kinds[1] else {"restarts": 2, "max_iterations": 10, "progress": False}
            one, other = sx.fit(kind, series, 3, **few), sx.fit(kind, series, 3, executor=executor, **few)
            answers["numbers"].append([list(map(float, fit.log_likelihoods)) for fit in (one, other)])
        record = reproduce(["duality"], folder, quick=True, executor=executor)[0]
        answers["reproduced"] = [record["name"], (folder / "duality.json").exists()]
        cluster.scheduler.allowed_failures = (
            0  # by default a computation may kill three workers before dask gives it up
        )
        try:
            sx.sweep(deadly, [(0, folder, "now")], executor)
        except sx.WorkerError as error:
            answers["died"] = str(error)
    answers["numbers"] += [[a.tolist(), b.tolist()] for a, b in zip(local[0], found, strict=True)]
    answers["numbers"].append([[c.fitted.bic for c in s.candidates] for s in (local[1], selection)])
    print(json.dumps(answers))


if __name__ == "__main__":  # workers import this file again
    main(pathlib.Path(sys.argv[1]))
