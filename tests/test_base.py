"""The contract's checks: what a cell is, what is refused when it is built."""

import pickle
from typing import Union

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.cells.shared.options import check_fields


@rj.cell
class Leaky:
    features: int
    leak: float = 0.5

    def init(self, key, x):
        return {"input": jnp.ones((x.shape[-1], self.features))}

    def initial_carry(self, params, x):
        return jnp.zeros((*x.shape[:-1], self.features))

    def __call__(self, params, carry, x, key=None):
        h = (1 - self.leak) * carry + self.leak * jnp.tanh(x @ params["input"])
        return h, h


def test_cell_is_frozen_hashable_equal_and_printable():
    assert Leaky(3) == Leaky(3, leak=0.5) and hash(Leaky(3)) == hash(Leaky(3)) and Leaky(3) != Leaky(4)
    assert repr(Leaky(3)) == "Leaky(3)" and repr(rj.LSTM(8, forget_bias=0.0)) == "LSTM(8, forget_bias=0.0)"
    with pytest.raises(AttributeError):
        Leaky(3).leak = 0.1
    assert isinstance(Leaky(3), rj.Cell) and not jax.tree.leaves(Leaky(3))


def test_cell_is_static_under_jit():
    x = jnp.ones((2, 3))
    params = Leaky(4).init(jax.random.key(0), x)
    step = jax.jit(lambda cell, params, x: cell(params, cell.initial_carry(params, x), x)[1])
    np.testing.assert_allclose(step(Leaky(4), params, x), 0.5 * np.tanh(3) * np.ones((2, 4)), rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.ones(2), np.ones(2), (jnp.ones(2),)])
def test_array_field_is_refused(bad):
    with pytest.raises(TypeError, match="Leaky: field 'leak' must be a plain hyperparameter, got an array"):
        Leaky(3, leak=bad)


def test_unhashable_field_is_refused():
    with pytest.raises(TypeError, match="Leaky: field 'leak' must be hashable, got list"):
        Leaky(3, leak=[1.0])


class Bare(rj.LSTM):
    """Without the decorator, and with a look of its own at its fields that does not call the parent's."""

    def __post_init__(self) -> None:
        if self.features % 2:
            raise ValueError("Bare: features must be even")


@rj.cell
class Decorated(rj.LSTM):
    """With the decorator, and a field of its own whose type only this function's reader knows."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()


@rj.cell
class Plain(rj.LSTM):
    pass


class Grandchild(Decorated):
    pass


@pytest.mark.parametrize("make", [Bare, Decorated, Plain, Grandchild])
def test_a_subclass_is_checked_like_its_parent_and_static_under_jit(make):
    with pytest.raises(ValueError, match=f"{make.__name__}: features must be at least 1, got 0"):
        make(0)
    with pytest.raises(TypeError, match=f"{make.__name__}: forget_bias must be a number, got an array"):
        make(4, forget_bias=jnp.ones(3))
    with pytest.raises(ValueError, match="chrono must be above 2"):
        make(4, chrono=1.0)
    cell, x = make(4), jnp.ones((2, 3))
    assert not jax.tree.leaves(cell) and cell == make(4) != rj.LSTM(4) and repr(cell) == f"{make.__name__}(4)"
    params = cell.init(jax.random.key(0), x)
    step = jax.jit(lambda cell, params, x: cell(params, cell.initial_carry(params, x), x)[1])
    plain = rj.LSTM(4)
    np.testing.assert_allclose(step(cell, params, x), step(plain, plain.init(jax.random.key(0), x), x), rtol=1e-6)


def test_own_checks_and_fields_of_a_subclass_hold_too():
    with pytest.raises(ValueError, match="Bare: features must be even"):
        Bare(3)
    with pytest.raises(ValueError, match="Decorated: gain must be finite"):
        Decorated(4, gain=float("nan"))
    with pytest.raises(
        TypeError, match="Grandchild: field 'gain' must be a plain hyperparameter, got an array|gain must be a number"
    ):
        Grandchild(4, gain=np.ones(2))


Maybe = int | None


@rj.cell
class Spelt:
    a: Maybe = None
    b: "Union[float, None]" = None  # noqa: UP007
    c: "bool | NotHere" = False  # noqa: F821
    d: tuple[int, ...] | int = ()

    def __post_init__(self):
        check_fields(self)


def test_fields_are_checked_by_their_type_and_not_by_how_it_is_spelt():
    assert type(Spelt(b=np.float32(2)).b) is float and Spelt(d=(0,)).d == (0,) and Spelt(c=3).c == 3
    with pytest.raises(ValueError, match="Spelt: a must be at least 1, got 0"):
        Spelt(a=0)
    with pytest.raises(TypeError, match="Spelt: b must be a number, got '2'"):
        Spelt(b="2")


@pytest.mark.parametrize("make", [rj.LSTM, rj.GRU, rj.Elman, rj.IRNN])
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match=f"{make.__name__}: features must be at least 1, got 0"):
        make(0)
    with pytest.raises(TypeError, match=f"{make.__name__}: features must be an int, got 2.5"):
        make(2.5)


def test_unknown_activation_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"Elman: activation must be one of .*; did you mean 'tanh'\?"):
        rj.Elman(3, activation="tahn")


def test_step_errors_name_cell_argument_expected_and_got():
    cell, x = rj.LSTM(4), jnp.ones((2, 3))
    params = cell.init(jax.random.key(0), x)
    carry = cell.initial_carry(params, x)
    with pytest.raises(ValueError, match=r"LSTM\(4\): x has 5 features \(shape \(2, 5\)\), .* made for 3"):
        cell(params, carry, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"LSTM\(4\): carry must have shape \(7, 4\).*got \(2, 4\)"):
        cell(params, carry, jnp.ones((7, 3)))
    with pytest.raises(TypeError, match=r"LSTM\(4\): x must be floating point, got int32; embed or one-hot"):
        cell(params, carry, jnp.ones((2, 3), jnp.int32))
    with pytest.raises(ValueError, match=r"LSTM\(4\): params lack \['recurrent'\]"):
        cell({"input": params["input"]}, carry, x)
    with pytest.raises(TypeError, match=r"LSTM\(4\): params must be a dict from init, got ArrayImpl"):
        cell(params["input"], carry, x)
    with pytest.raises(ValueError, match=r"at least 1 axis, got shape \(\)"):
        cell.init(jax.random.key(0), jnp.ones(()))


def test_init_takes_shapes_only_and_follows_their_dtype():
    params = rj.GRU(4).init(jax.random.key(0), jax.ShapeDtypeStruct((2, 3), jnp.bfloat16))
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


def test_carries_of_stacks_are_named_and_picklable():
    cell, x = rj.Stack(rj.LSTM(4), rj.GRU(5)), jnp.ones((2, 3))
    carry = cell.initial_carry(cell.init(jax.random.key(0), x), x)
    again = pickle.loads(pickle.dumps(carry))
    assert type(again) is type(carry) and again.layer_0.c.shape == (2, 4) and again.layer_1.shape == (2, 5)


@pytest.mark.parametrize("rate", [-0.1, 1.0, "half"])
def test_dropout_rate_is_checked(rate):
    with pytest.raises((ValueError, TypeError), match="Dropout: rate must be"):
        rj.Dropout(rj.LSTM(3), rate)


def test_stack_and_sequential_say_what_they_take():
    with pytest.raises(TypeError, match="Stack: takes one or more cells"):
        rj.Stack()
    with pytest.raises(TypeError, match=r"Sequential: takes layers, got LSTM\(3\); wrap a cell as RNN\(LSTM\(3\)\)"):
        rj.Sequential(rj.LSTM(3))
    with pytest.raises(ValueError, match="Bidirectional: merge must be one of"):
        rj.Bidirectional(rj.LSTM(3), merge="add")


@pytest.mark.parametrize("method", ["scan", "loop", "associative"])
def test_who_forbids_promotion_of_ranks_may_use_the_library(method):
    """`[B, H] + [H]` within the library's own cells and wrappers is no mistake; in the user's own code it is still told."""
    cell = rj.Readout(rj.LayerNorm(rj.MinGRU(4) if method == "associative" else rj.LSTM(4)), 3)
    xs = jnp.ones((5, 2, 3))
    params = cell.init(jax.random.key(0), xs[0])
    want = rj.unroll(cell, params, xs, lengths=np.array([5, 2]), method=method)[1]
    with jax.numpy_rank_promotion("raise"):
        got = rj.unroll(cell, params, xs, lengths=np.array([5, 2]), method=method)[1]
        np.testing.assert_array_equal(got, want)
        with pytest.raises(ValueError, match="numpy_rank_promotion"):
            rj.unroll(
                lambda p, h, x: (h + p, h),
                jnp.ones(3),
                xs,
                carry=jnp.zeros((2, 3)),
                method=method.replace("associative", "scan"),
            )
