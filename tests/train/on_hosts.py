"""One of several processes that train together over the loopback network: COORDINATOR PROCESSES PROCESS OUT [OPTION=VALUE]...

With one process and two devices it is the run to compare with. Prints what `fit` gave as a line of JSON.
"""

import json
import os
import signal
import sys
import time

import jax


def join(coordinator, processes, process, devices):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=10)


def main(coordinator, processes, process, out, **options):
    processes, process = int(processes), int(process)
    join(coordinator, processes, process, int(options.pop("devices", 1)))
    import jax.numpy as jnp
    import numpy as np

    import rnnjax as rj

    values = np.sin(0.3 * np.arange(400, dtype=np.float32))[:, None]
    cell = rj.Readout(rj.GRU(4), 1)
    x = jnp.zeros((4, 1))
    params = cell.init(jax.random.key(0), x)
    window = rj.data.windows(values, 4, 5)
    mine = slice(process * 4 // processes, (process + 1) * 4 // processes)
    slow = float(options.pop("slow", 0))
    stop, dies = int(options.pop("stop", -1)), int(options.pop("dies", -1))

    def batches(step):
        time.sleep(slow)
        if process == 1 and step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        if process == 1 and step == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return window(step)[:, mine]

    def loss(params, carry, window, key):
        carry, ys = rj.unroll(cell, params, window[:-1], carry=carry)
        return carry, rj.losses.over_time(rj.losses.mse(ys, window[1:]))

    def validate(params):
        _, ys = rj.unroll(cell, params, values[:60])
        return rj.losses.over_time(rj.losses.mse(ys, values[1:61]))

    given = dict(steps=20, log_every=5, validate_every=10, resume=False) | {
        k: json.loads(v) for k, v in options.items()
    }
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    result = rj.train.fit(
        loss,
        params,
        batches,
        carry=cell.initial_carry(params, x),
        validate=jax.jit(validate),
        out=out,
        mesh=mesh,
        **given,
    )
    flat = np.concatenate(
        [np.ravel(leaf) for leaf in jax.tree.leaves((result.state.params, result.state.carry, result.params))]
    )
    said = {"step": int(result.state.step), "stopped": result.stopped, "signal": result.signal, "flat": flat.tolist()}
    print(json.dumps(said | {"losses": [line["loss"] for line in result.history]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], **dict(word.split("=", 1) for word in sys.argv[5:]))
