"""`check_cell` passes cells that keep the contract and names what broken ones break."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from zoo import ZOO

import rnnjax as rj
from rnnjax.testing import ContractError, check_cell

X = jnp.ones((2, 3))


@rj.cell
class Good:
    """A leaky unit that each broken cell below differs from in one thing."""

    features: int = 4

    def init(self, key, x):
        return {"input": jax.random.normal(key, (x.shape[-1], self.features))}

    def initial_carry(self, params, x):
        return jnp.zeros((*x.shape[:-1], self.features), x.dtype)

    def __call__(self, params, carry, x, key=None):
        h = 0.5 * carry + jnp.tanh(x @ params["input"])
        return h, h


def broken(**methods: Any) -> Any:
    """``Good`` with methods replaced."""
    body = {k: v for k, v in vars(Good).items() if k in ("init", "initial_carry", "__call__")}
    return rj.cell(type("Broken", (), {"__annotations__": {"features": int}, "features": 4, **body, **methods}))()


def step(f: Any) -> Any:
    return lambda self, params, carry, x, key=None: f(params, carry, x, key)


@jax.custom_vjp
def wrong_gradient(x):
    return jnp.tanh(x)


wrong_gradient.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g,))
leaky = lambda p, c, x: 0.5 * c + jnp.tanh(x @ p["input"])
noise = iter(range(10**6))


@pytest.mark.parametrize(
    "cell",
    [Good(), pytest.param(rj.Stack(rj.Clockwork(4), rj.VariationalDropout(rj.LSTM(4), 0.5)), marks=pytest.mark.slow)],
    ids=repr,
)
def test_cells_that_keep_the_contract_pass(cell):
    assert check_cell(cell, jax.random.key(0), X) is None


@pytest.mark.slow
def test_images_and_shapes_in_place_of_arrays_pass():
    check_cell(rj.ConvGRU(2, dims=1), jax.random.key(0), jax.ShapeDtypeStruct((2, 5, 3), jnp.float32))


BREACHES = {
    "bare tuple": (
        broken(initial_carry=lambda self, p, x: (jnp.zeros((*x.shape[:-1], 4)),) * 2),
        "carry is a bare tuple; name its parts with a NamedTuple",
    ),
    "list of params": (broken(init=lambda self, key, x: [jnp.ones((3, 4))]), "init must return a dict of arrays"),
    "params by the batch": (
        broken(init=lambda self, key, x: {"input": jnp.ones((x.shape[-1], 4)), "n": jnp.ones(x.shape[:-1])}),
        "must not depend on the batch",
    ),
    "random init": (
        broken(init=lambda self, key, x: {"input": jnp.full((x.shape[-1], 4), next(noise) * 1.0)}),
        "different params for the same key",
    ),
    "start sees x": (
        broken(initial_carry=lambda self, p, x: x @ p["input"]),
        "initial_carry depends on the values of x",
    ),
    "swapped": (broken(__call__=step(lambda p, c, x, k: leaky(p, c, x))), r"must return the pair \(carry, y\)"),
    "shape": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x)[..., :2], x))),
        r"carry changes from float32\[3, 4\] to float32\[3, 2\]",
    ),
    "dtype": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x).astype(jnp.float16), x))),
        "from float32.* to float16",
    ),
    "structure": (broken(__call__=step(lambda p, c, x, k: ({"h": c}, x))), "changes its structure"),
    "hidden noise": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x) + next(noise), x))),
        "without a key it must be deterministic",
    ),
    "key ignored": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x) + (0 if k is None else next(noise)), x))),
        "two calls of a step with the same key differ",
    ),
    "no key": (
        broken(__call__=lambda self, p, c, x: (leaky(p, c, x), x)),
        "a step with a key raised TypeError: .*takes none",
    ),
    "batch mean": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x - x.mean(0)), x))),
        "a batch differs from its sequences one by one",
    ),
    "gradient": (
        broken(__call__=step(lambda p, c, x, k: (0.5 * c + wrong_gradient(x @ p["input"]), x))),
        "differs from finite differences in float64",
    ),
    "gradient not finite": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x) + jnp.sqrt(jnp.abs(c - c)), x))),
        "gradient of a step is not finite",
    ),
    "mutates": (
        broken(__call__=step(lambda p, c, x, k: (p.update(input=p["input"] + 1) or leaky(p, c, x), x))),
        "in place; it must be pure",
    ),
    "not under jit": (
        broken(__call__=step(lambda p, c, x, k: (leaky(p, c, x) if x.sum() > 99 else c, x))),
        "raised TracerBoolConversionError",
    ),
}


BREACHES["claims"] = (
    broken(
        linear_in_time=True,
        linear_maps=lambda self, params, x: rj.carry_maps.Affine(jnp.full((1,), 0.9), jnp.tanh(x @ params["input"])),
        output_of_carry=lambda self, params, carry, x: carry,
    ),
    "claims LinearInTime of rnnjax.protocols, whose methods give something else than its step",
)


@pytest.mark.parametrize("name", BREACHES)
def test_every_breach_is_named(name):
    cell, sentence = BREACHES[name]
    with pytest.raises(ContractError, match=sentence):
        check_cell(cell, jax.random.key(0), X)


def test_a_plain_class_with_an_array_is_told_both_and_one_error_lists_everything():
    class Plain:
        def __init__(self):
            self.w = jnp.ones(3)

        init = Good.init
        initial_carry = lambda self, params, x: (jnp.zeros(3), jnp.zeros(3))
        __call__ = Good.__call__

    Plain.features = 4
    with pytest.raises(
        ValueError, match=r"Plain breaks(.|\n)*frozen dataclass(.|\n)*'w' holds an array(.|\n)*bare tuple"
    ):
        check_cell(Plain(), jax.random.key(0), X)


def test_an_equality_that_lies_is_found_by_counting_traces():
    class Restless:
        features = 4
        init, initial_carry, __call__ = Good.init, Good.initial_carry, Good.__call__
        __eq__ = lambda self, other: False
        __hash__ = lambda self: next(noise)

    with pytest.raises(AssertionError, match="traces again"):
        check_cell(Restless(), jax.random.key(0), X)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.id)
def test_every_cell_and_wrapper_of_the_library_keeps_the_contract(entry):
    check_cell(entry.cell, jax.random.key(0), jnp.ones((2, *entry.x)))
