"""Question: how fast does an arm learn to reach, beside MotorNet itself?

One step of training of `reach`: a second of 32 arms with six muscles under a GRU of 32, the loss and its gradient; the same params, starts
and targets on both sides, whose losses and gradients are equal before anything is timed. MotorNet runs on torch, as its example does.

    python benchmarks/arm.py [--quick]        needs motornet==0.3.0 and torch beside rnnjax
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, installed, machine_line, save

import rnnjax as rj
from rnnjax.bench import interleave, print_rows
from rnnjax.tasks import reach
from rnnjax.tasks.physics.muscled import Arm, start

BODY, HIDDEN = Arm(), 32


def ours(policy: Any, episode: reach.Episode) -> Callable[[Any], Any]:
    """``params -> (loss, gradients)``."""
    step = jax.jit(jax.value_and_grad(lambda params: reach.away(BODY, policy, params, episode).mean()))
    return lambda params: jax.block_until_ready(step(params))


def in_motornet(policy: Any, params: Any, episode: reach.Episode) -> Callable[[Any], Any]:
    """The same in the words of MotorNet's example; returns the loss and the gradient of the output layer."""
    import motornet
    import torch

    torch.set_num_threads(1)  # arrays so small that a second thread only costs
    place, target = (torch.tensor(np.asarray(part)) for part in episode)
    world = motornet.environment.RandomTargetReach(
        motornet.effector.RigidTendonArm26(motornet.muscle.RigidTendonHillMuscle()), max_ep_duration=1.0
    )
    gru = rj.interop.to_torch(rj.RNN(policy.cell), params["cell"])
    output, bias = (torch.tensor(np.asarray(params[name]), requires_grad=True) for name in ("output", "output_bias"))

    def step(_: Any) -> tuple[Any, Any]:
        for parameter in (output, bias, *gru.parameters()):
            parameter.grad = None
        world.reset(options={"batch_size": len(place), "joint_state": place})
        world.goal, memory, over = target, None, False
        seen, away = world.get_obs(), [(world.states["fingertip"] - target).abs().sum(-1)]
        while not over:
            y, memory = gru(seen[None], memory)
            seen, _, over, _, about = world.step(torch.sigmoid(y[0] @ output + bias))
            away.append((about["states"]["fingertip"] - target).abs().sum(-1))
        loss = torch.stack(away).mean()
        loss.backward()
        return loss.detach(), output.grad

    return step


def measure(batch: int, repeats: int) -> dict[str, Any]:
    """One row: milliseconds of a step of training, and arm steps a second."""
    policy, key = reach.network(BODY, HIDDEN), jax.random.key(0)
    episode = reach.episodes(BODY, key, batch)
    params = reach.started(policy, key, reach.shown(BODY, episode, start(BODY, episode.place)))
    params = params | {"output_bias": jnp.full(BODY.muscles, -2.0)}  # so that the arms move
    sides = {"rnnjax": ours(policy, episode), "motornet": in_motornet(policy, params, episode)}
    (loss, grads), (theirs, grad) = (side(params) for side in sides.values())
    np.testing.assert_allclose(loss, theirs, rtol=1e-4)
    np.testing.assert_allclose(grads["output"], grad, rtol=1e-2, atol=1e-4)
    ms = interleave(sides, (params,), repeats, settle=True)
    speeds = {f"{name}, arm steps/s": round(1e3 * batch * reach.STEPS / ms[name]) for name in ms}
    return {"what": "reach", "shape": [batch, HIDDEN], **ms, "ratio": ms["motornet"] / ms["rnnjax"], **speeds}


def main() -> None:
    options = arguments(__doc__)
    if not (installed("motornet") and installed("torch")):
        raise SystemExit("this compares with MotorNet; pip install motornet==0.3.0 torch")
    print(machine_line())
    row = measure(*(4, 1) if options.quick else (32, min(options.repeats, 5)))
    columns = ("what", "shape", "rnnjax", "motornet", "ratio", "rnnjax, arm steps/s", "motornet, arm steps/s")
    print_rows([row], columns, "reach, training step, milliseconds; shape B, H")
    save("arm", [row], options)


if __name__ == "__main__":
    main()
