"""Question: does the point learn to reach as fast, batch for batch, as in MotorNet's example?

Mean training loss of the 250 batches before each batch that the example's log prints, over seeds: with the example's optimiser (Adam,
0.001) and with that of the recipe `reach_point`. With `--peer` MotorNet itself, its own policy and environment, trains the first 250
batches of as many seeds: what it prints is one run.

    python benchmarks/reaching.py [--quick] [--peer]        --peer needs motornet==0.3.0 and torch beside rnnjax
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import arguments, installed, machine_line, save

from rnnjax.bench import print_rows
from rnnjax.tasks import reach
from rnnjax.tasks.physics.muscled import Point, start

BODY, HIDDEN, BATCH = Point(), 32, 32
PRINTED = {250: 0.490, 500: 0.225, 1000: 0.171, 2000: 0.140, 3000: 0.124, 5750: 0.109}
LAST = 5750
RATES = {"Adam, 0.001": optax.adam(1e-3), "the recipe": reach.learner(LAST)}


def losses(optimizer: optax.GradientTransformation, seed: int, batches: int) -> np.ndarray:
    """The training loss of each batch."""
    policy, key = reach.network(BODY, HIDDEN), jax.random.key(seed)
    some = reach.episodes(BODY, key, BATCH)
    params = reach.started(policy, key, reach.shown(BODY, some, start(BODY, some.place)))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optimizer)

    def step(carry: Any, number: jax.Array) -> Any:
        params, state = carry
        episode = reach.episodes(BODY, jax.random.fold_in(key, number), BATCH)
        loss, grads = jax.value_and_grad(lambda p: reach.away(BODY, policy, p, episode).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(batches))[1])
    return np.asarray(run((params, optimizer.init(params))))


def in_motornet(seed: int, batches: int) -> np.ndarray:
    """The same by MotorNet: its environment, its policy with its own start, Adam at 0.001."""
    import motornet
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # arrays so small that a second thread only costs
    world = motornet.environment.RandomTargetReach(motornet.effector.ReluPointMass24(), max_ep_duration=1.0)
    policy = motornet.policy.PolicyGRU(world.observation_space.shape[0], HIDDEN, world.n_muscles, device="cpu")
    optimizer, found = torch.optim.Adam(policy.parameters(), lr=1e-3), []
    for number in range(batches):
        seen, about = world.reset(seed=seed * LAST + number, options={"batch_size": BATCH})
        memory, over, away = policy.init_hidden(BATCH), False, []
        while True:
            away.append((about["states"]["fingertip"] - about["goal"]).abs().sum(-1))
            if over:
                break
            drive, memory = policy(seen, memory)
            seen, _, over, _, about = world.step(drive)
        loss = torch.stack(away).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


def row(who: str, runs: list[np.ndarray]) -> dict[str, Any]:
    """Mean over the seeds at each batch printed, and the range over seeds at the first of them."""
    at = {b: [float(run[max(0, b - 250) : b].mean()) for run in runs] for b in PRINTED if b <= len(runs[0])}
    first = next(iter(at.values()), [float(run.mean()) for run in runs])
    extent = f"{min(first):.3f} to {max(first):.3f}"
    return {"who": who, "seeds": len(runs), **{str(b): float(np.mean(at[b])) for b in at}, "over seeds, first": extent}


def main() -> None:
    peer = lambda parser: parser.add_argument("--peer", action="store_true", help="run MotorNet's example too: minutes")
    options = arguments(__doc__, peer)
    if options.peer and not (installed("motornet") and installed("torch")):
        raise SystemExit("--peer runs MotorNet; pip install motornet==0.3.0 torch")
    print(machine_line())
    seeds, batches = (range(1), 20) if options.quick else (range(5), LAST)
    rows = [{"who": "MotorNet's log", "seeds": 1, **{str(batch): loss for batch, loss in PRINTED.items()}}]
    rows += [row(f"rnnjax, {name}", [losses(rate, seed, batches) for seed in seeds]) for name, rate in RATES.items()]
    if options.peer:
        rows.append(row("MotorNet, run again", [in_motornet(seed, min(batches, 250)) for seed in seeds]))
    columns = ("who", "seeds", *map(str, PRINTED), "over seeds, first")
    shown = [{name: f"{value:.3f}" if isinstance(value, float) else value for name, value in r.items()} for r in rows]
    print_rows(shown, columns, "mean loss of the 250 batches up to batch, m")
    save("reaching", rows, options)


if __name__ == "__main__":
    main()
