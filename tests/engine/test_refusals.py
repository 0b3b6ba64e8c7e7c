"""What `lax.scan` refuses `rj.scan` refuses, type and words alike; what `lax.scan` accepts oddly, it accepts alike."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

ADDRESS = re.compile(r"0x[0-9a-f]+")
W = np.linspace(-0.5, 0.5, 16, dtype=np.float32).reshape(4, 4)
H = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)
XS = np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(3, 2, 4)
FIVE = np.arange(5.0, dtype=np.float32)


class State(NamedTuple):
    h: Any
    n: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Held:
    h: Any
    n: Any
    name: str = dataclasses.field(default="held", metadata={"static": True})


class Unflattened:
    """No array and no pytree."""


def cell(h, x):
    h = jnp.tanh(x @ W + h @ W)
    return h, h


def keep(c, x):
    return c, x


def count(c, x):
    return c + 1, c


def call(*args, **options):
    """A call of scan, to be made with either."""
    return lambda scan: scan(*args, **options)


def traced_length(scan):
    return jax.jit(lambda n: scan(keep, 0.0, None, length=n))(3)


def traced_unroll(scan):
    return jax.jit(lambda n: scan(cell, H, XS, unroll=n))(3)


def leaked(scan):
    """The error of a body that keeps a tracer, raised after the loop."""
    kept = []
    scan(lambda h, x: (kept.append(x), cell(h, x))[1], H, XS)
    return kept[0] + 1


def in_grad(f, init, xs):
    return lambda scan: jax.grad(lambda init: jnp.sum(jax.tree.leaves(scan(f, init, xs)[0])[0]))(init)


def in_jit(f, init, xs):
    return lambda scan: jax.jit(lambda init, xs: scan(f, init, xs))(init, xs)


def scaled(c, x):
    h, _ = cell(c[0], x)
    return (h, c[1] * 0.5), h * c[1]


def raise_key_error(c, x):
    raise KeyError("of the user")


def branch_on_carry(c, x):
    return (c, x) if c > 0 else (x, c)


def numpy_of_carry(c, x):
    return np.asarray(c) + 1, x


REFUSED = {
    # leaves that nothing can be scanned over
    "xs a list of ints": call(keep, 0, [0, 1, 2, 3, 4]),
    "xs a list of floats": call(keep, 0.0, [0.0, 1.0]),
    "xs an int": call(keep, 0, 5),
    "xs a float": call(keep, 0, 2.5),
    "xs a complex": call(keep, 0, 1j),
    "xs a bool": call(keep, 0, True),
    "xs a numpy scalar": call(keep, 0, np.float32(1)),
    "xs a numpy array without axes": call(keep, 0, np.zeros(())),
    "xs an array without axes": call(keep, 0, jnp.float32(1)),
    "xs an array and an int": call(keep, 0, (FIVE, 5)),
    "xs an int and a length": call(keep, 0, 5, 5),
    "xs a string": call(keep, 0, "abc"),
    "xs a list of strings": call(keep, 0, ["a", "b"]),
    "xs bytes": call(keep, 0, b"abc"),
    "xs a set": call(keep, 0, {1, 2}),
    "xs a range": call(keep, 0, range(5)),
    "xs a generator": call(keep, 0, iter([1, 2])),
    "xs a function": call(keep, 0, len),
    "xs an object": call(keep, 0, Unflattened),
    "xs an array of objects": call(keep, 0, np.array([object(), object()])),
    "xs an array of strings": call(keep, 0, np.array(["a", "b"])),
    "xs an array of times": call(keep, 0, np.zeros(3, "datetime64[s]")),
    "xs a dict with keys that do not sort": call(keep, 0, {1: FIVE, "a": FIVE}),
    "xs a shape": call(lambda c, x: (c + x, x), 0.0, jax.ShapeDtypeStruct((5,), jnp.float32)),
    # lengths
    "no xs": call(keep, 0),
    "xs None": call(keep, 0, None),
    "xs without leaves": call(keep, 0, ()),
    "xs a dict without leaves": call(keep, 0, {"a": None}),
    "lengths differ": call(keep, 0, (FIVE, XS)),
    "lengths differ in a dict": call(keep, 0, {"b": FIVE, "a": np.zeros((0, 2))}),
    "length disagrees": call(keep, 0, FIVE, 4),
    "length by name disagrees": call(keep, 0, FIVE, length=6),
    "length 0 disagrees": call(keep, 0, FIVE, length=0),
    "length disagrees with two": call(keep, 0, (FIVE, XS), length=3),
    "length negative with xs": call(keep, 0, FIVE, length=-1),
    "length negative, a sum": call(count, 0, None, length=-1),
    "length negative, a cell": call(lambda h, _: cell(h, h), H, None, length=-2),
    "length a string": call(keep, 0, None, length="abc"),
    "length a list": call(keep, 0, None, length=[3]),
    "length a vector": call(keep, 0, None, length=np.array([3, 4])),
    "length not a number": call(keep, 0, None, length=float("nan")),
    "length infinite": call(keep, 0, None, length=float("inf")),
    "length traced": traced_length,
    # unroll
    "unroll negative": call(cell, H, XS, unroll=-1),
    "unroll a string": call(cell, H, XS, unroll="2"),
    "unroll None": call(cell, H, XS, unroll=None),
    "unroll a list": call(cell, H, XS, unroll=[2]),
    "unroll a float": call(cell, H, XS, unroll=1.5),
    "unroll a vector": call(cell, H, XS, unroll=np.array([1, 2])),
    "unroll traced": traced_unroll,
    # reverse
    # the body
    "body None": call(None, H, XS),
    "body an int": call(3, H, XS),
    "body an array": call(W, H, XS),
    "body of no arguments": call(lambda: (0, 0), 0, FIVE),
    "body of one argument": call(lambda c: (c, c), 0, FIVE),
    "body of three arguments": call(lambda c, x, p: (c, c), 0, FIVE),
    "body raises": call(raise_key_error, 0, FIVE),
    "body branches on the carry": call(branch_on_carry, 0.0, FIVE),
    "body makes numpy of the carry": call(numpy_of_carry, 0.0, FIVE),
    "body's shapes disagree": call(lambda h, x: cell(h, x[:, :3]), H, XS),
    "body adds shapes that do not broadcast": call(lambda c, x: (c + x, x), np.zeros(2, np.float32), XS),
    "body is refused before the length": call(3, 0),
    # its result
    "body returns None": call(lambda c, x: None, 0.0, FIVE),
    "body returns the carry": call(lambda c, x: c, 0.0, FIVE),
    "body returns an array of two": call(lambda c, x: jnp.zeros(2), 0.0, FIVE),
    "body returns one in a tuple": call(lambda c, x: (c,), 0.0, FIVE),
    "body returns three": call(lambda c, x: (c, x, x), 0.0, FIVE),
    "body returns nothing in a tuple": call(lambda c, x: (), 0.0, FIVE),
    "body returns a dict of three": call(lambda c, x: dict(a=c, b=x, c=x), 0.0, FIVE),
    "body returns a string as output": call(lambda c, x: (c, "abc"), 0.0, FIVE),
    "body returns a string as carry": call(lambda c, x: ("abc", x), 0.0, FIVE),
    "body returns an object": call(lambda c, x: (c, Unflattened), 0.0, FIVE),
    "body returns a function": call(lambda c, x: (c, len), 0.0, FIVE),
    # a carry of another type
    "carry int32 to float32": call(lambda c, x: (c.astype(jnp.float32), x), np.int32(0), FIVE),
    "carry float32 to int32": call(lambda c, x: (c.astype(jnp.int32), x), np.float32(0), FIVE),
    "carry float32 to bfloat16": call(lambda c, x: (c.astype(jnp.bfloat16), x), np.float32(0), FIVE),
    "carry bool to int32": call(lambda c, x: (c.astype(jnp.int32), x), np.bool_(True), FIVE),
    "carry grows": call(lambda c, x: (c[None], x), H, FIVE),
    "carry of another length": call(lambda c, x: (jnp.concatenate([c, c]), x), H, FIVE),
    "carry broadcasts": call(lambda c, x: (c + x, None), np.zeros(4, np.float32), XS),
    "carry a scalar that grows": call(lambda c, x: (c + x, None), 0.0, XS),
    "one of two carries": call(lambda c, x: ((c[0], c[1][:1]), x), (H, H), FIVE),
    "both of two carries": call(lambda c, x: ((c[0][0], c[1].astype(jnp.int32)), x), (H, H), FIVE),
    "a carry in a dict": call(lambda c, x: ({"a": c["a"], "b": c["a"]}, x), {"a": H, "b": np.float32(0)}, FIVE),
    "a carry in a NamedTuple": call(lambda c, x: (State(c.h, c.h), x), State(H, np.int32(0)), FIVE),
    "a carry in a dataclass": call(lambda c, x: (Held(c.n, c.h), x), Held(H, np.int32(0)), FIVE),
    "carry of a body without a signature": call(dict(a=1).get, 0.0, FIVE),
    "carry of a builtin": call(divmod, 1.5, np.arange(5)),
    # a carry of another structure
    "carry tuple to list": call(lambda c, x: (list(c), x), (0.0, 0.0), FIVE),
    "carry tuple to three": call(lambda c, x: ((*c, 0.0), x), (0.0, 0.0), FIVE),
    "carry tuple to one": call(lambda c, x: (c[:1], x), (0.0, 0.0), FIVE),
    "carry tuple to leaf": call(lambda c, x: (c[0], x), (0.0, 0.0), FIVE),
    "carry leaf to tuple": call(lambda c, x: ((c, c), x), 0.0, FIVE),
    "carry leaf to None": call(lambda c, x: (None, x), 0.0, FIVE),
    "carry None to leaf": call(lambda c, x: (x, x), None, FIVE),
    "carry dict to other keys": call(lambda c, x: ({"b": c["a"]}, x), {"a": 0.0}, FIVE),
    "carry dict to more keys": call(lambda c, x: ({**c, "b": x}, x), {"a": 0.0}, FIVE),
    "carry NamedTuple to tuple": call(lambda c, x: (tuple(c), x), State(0.0, 0), FIVE),
    "carry tuple to NamedTuple": call(lambda c, x: (State(*c), x), (0.0, 0), FIVE),
    "carry of another static field": call(lambda c, x: (dataclasses.replace(c, name="b"), x), Held(0.0, 0), FIVE),
    "carry deep inside": call(lambda c, x: ((c[0], {"k": (c[1]["k"][0],)}), x), (0.0, {"k": [0.0]}), FIVE),
    # init
    "init a string": call(keep, "abc", FIVE),
    "init an object": call(keep, Unflattened, FIVE),
    "init a function": call(keep, len, FIVE),
    "init a list with a string": call(keep, [0.0, "a"], FIVE),
    "init an array of objects": call(keep, np.array([None]), FIVE),
    "init an int that does not fit": call(keep, 2**40, FIVE),
    "init a shape": call(count, jax.ShapeDtypeStruct((2,), jnp.float32), FIVE),
    "init keys that do not sort": call(keep, {1: 0.0, "a": 0.0}, FIVE),
    # under transformations, and where the loop would be rewritten
    "in jit": in_jit(lambda h, x: (h[0], x), H, XS),
    "in jit, lengths differ": in_jit(keep, H, (FIVE, XS)),
    "in grad": in_grad(lambda h, x: (jnp.sum(h), x), H, XS),
    "in grad, a list of ints": in_grad(cell, H, [1, 2]),
    "in vmap": lambda scan: jax.vmap(lambda h: scan(lambda h, x: (h[0], x), h, FIVE))(np.ones((3, 2), np.float32)),
    "in vmap, no axis left": lambda scan: jax.vmap(lambda x: scan(keep, 0.0, x))(FIVE),
    "in a scan": lambda scan: scan(lambda c, x: scan(lambda c, y: (y, c), c, x), 0.0, XS),
    "in a scan, no axis left": lambda scan: scan(lambda c, x: scan(keep, c, x), 0.0, FIVE),
    "a cell whose carry grows": call(lambda h, x: (jnp.tanh(x @ W + h @ W)[None], x), H, XS),
    "a cell whose carry changes dtype": call(lambda h, x: (cell(h, x)[0].astype(jnp.bfloat16), x), H, XS),
    "a tracer leaks": leaked,
    # the call
    "no arguments": call(),
    "no init": call(cell),
    "an unknown option": call(cell, H, XS, wrong=1),
    "an argument twice": call(cell, H, XS, xs=XS),
}


# Accepted by one release of JAX, or for one value, and refused by another.
EITHER = {
    "length negative, nothing to do": call(keep, 0, None, length=-1),
    "length negative, as xs none": call(keep, (0, H), (), length=-3),
    "body returns a NamedTuple": call(lambda c, x: State(c + x, c), 0.0, FIVE),
    "body returns a dict of two": call(lambda c, x: dict(a=c + x, b=c), 0.0, FIVE),
    "body returns a dataclass": call(lambda c, x: Held(c + x, c), 0.0, FIVE),
    "body a class": call(State, np.float32(0), FIVE),
}

ACCEPTED = {
    # leaves of init
    "init an int": call(count, 0, FIVE),
    "init an int, made float": call(lambda c, x: (c + x, c), 0, FIVE),
    "init a float": call(lambda c, x: (c + 1, c * x), 0.0, FIVE),
    "init a bool": call(lambda c, x: (~c, c), True, FIVE),
    "init a complex": call(lambda c, x: (c * 1j, c), 1.0 + 0j, FIVE),
    "init a numpy scalar": call(lambda c, x: (c + x, c), np.float32(0), FIVE),
    "init a weak array": call(lambda c, x: (c + 1, c), jnp.asarray(1.0), FIVE),
    "init weak, bfloat16 in the body": call(lambda c, x: (c + jnp.bfloat16(1), c), 1.0, FIVE),
    "init weak, int8 in the body": call(lambda c, x: (c + jnp.int8(1), c), 1, FIVE),
    "init weak, kept": call(keep, (1, 1.0, True), FIVE),
    "init weak, swapped": call(lambda c, x: (c[::-1], c), (1, 2), FIVE),
    "init weak in part": call(lambda c, x: ((c[0] + x, c[1] + 1), c), (0.0, 0), FIVE),
    "init a list": call(lambda c, x: ([c[1], c[0] + 1], x), [0.0, 1.0], FIVE),
    "init None": call(lambda c, x: (None, x * 2), None, FIVE),
    "init empty": call(lambda c, x: ((), x * 2), (), FIVE),
    "init with None inside": call(lambda c, x: ((c[0] + x, None), c), (np.float32(0), None), FIVE),
    "init float64": call(lambda c, x: (c + 1, c), np.float64(0), FIVE),
    "init an empty array": call(keep, np.zeros((0, 3), np.float32), FIVE),
    "init a key": call(lambda k, x: (jax.random.fold_in(k, 1), jax.random.uniform(k)), jax.random.key(0), FIVE),
    # xs
    "xs numpy": call(cell, H, XS),
    "xs float64": call(keep, 0, np.arange(3.0)),
    "xs int64": call(keep, 0, np.arange(3)),
    "xs float16": call(keep, 0, np.arange(3, dtype=np.float16)),
    "xs bool": call(lambda c, x: (c + x, x), np.float32(0), np.array([True, False])),
    "xs weak": call(lambda c, x: (c + x, x), 0.0, jnp.full(3, 2.0)),
    "xs weak ints": call(lambda c, x: (c + x, x), 0, jnp.asarray([1, 2]) * 2),
    "xs a list of arrays": call(lambda c, x: (c + x[0], x[1]), np.float32(0), [FIVE, FIVE + 1]),
    "xs a list with None": call(lambda c, x: (c + x[0], x), np.float32(0), [FIVE, None]),
    "xs a dict": call(lambda c, x: (c + x["b"], x), np.float32(0), {"b": FIVE, "a": FIVE * 2}),
    "xs a NamedTuple": call(lambda c, x: (c + x.h, x), np.float32(0), State(FIVE, np.arange(5))),
    "xs a dataclass": call(lambda c, x: (c + x.h, x), np.float32(0), Held(FIVE, np.arange(5))),
    "xs keys": call(lambda c, k: (c, jax.random.uniform(k)), 0, jax.random.split(jax.random.key(1), 3)),
    "xs with no features": call(keep, 0, np.zeros((4, 0), np.float32)),
    "xs not read": call(lambda h, x: cell(h, h), H, XS),
    # lengths
    "length 0": call(cell, H, XS[:0]),
    "length 0, no xs": call(count, 0, None, length=0),
    "length 0, weak init made float": call(lambda c, x: (c + x, c), 0, FIVE[:0]),
    "length 1": call(cell, H, XS[:1]),
    "length given with xs": call(cell, H, XS, 3),
    "length alone": call(lambda h, _: cell(h, h), H, None, 3),
    "length with empty xs": call(count, 0, (), 3),
    "length a float": call(count, 0, None, length=3.7),
    "length a bool": call(count, 0, None, length=True),
    "length a digit": call(count, 0, None, length="3"),
    "length a numpy int": call(cell, H, XS, length=np.int64(3)),
    "length an array": call(cell, H, XS, length=jnp.asarray(3)),
    # unroll and reverse
    "unroll 0": call(cell, H, XS, unroll=0),
    "unroll 2": call(cell, H, XS, unroll=2),
    "unroll more than there is": call(cell, H, XS, unroll=7),
    "unroll True": call(cell, H, XS, unroll=True),
    "unroll False": call(cell, H, XS, unroll=False),
    "unroll True of nothing": call(cell, H, XS[:0], unroll=True),
    "unroll a numpy int": call(cell, H, XS, unroll=np.int64(2)),
    "reverse": call(cell, H, XS, None, True),
    "reverse an int": call(cell, H, XS, reverse=1),
    "reverse None": call(cell, H, XS, reverse=None),
    "reverse a string": call(cell, H, XS, reverse="yes"),
    "reverse a numpy bool": call(cell, H, XS, reverse=np.bool_(True)),
    "all by position": call(cell, H, XS, 3, True, 2),
    "all by name": call(f=cell, init=H, xs=XS, length=3, reverse=True, unroll=2),
    # what the body returns
    "body returns Python numbers": call(lambda c, x: (c, (1, 2.0, True, 3j)), 0.0, FIVE),
    "body returns numpy": call(lambda c, x: (c, (np.float32(1), np.arange(3))), 0.0, FIVE),
    "body returns a Python carry": call(lambda c, x: (1.0, c), 0.0, FIVE),
    "body returns None as output": call(lambda c, x: (c + x, None), 0.0, FIVE),
    "body returns no outputs": call(lambda c, x: (c + x, ()), 0.0, FIVE),
    "body returns a list of two": call(lambda c, x: [c + x, x], 0.0, FIVE),
    "body returns its input": call(lambda c, x: (c + x, x), 0.0, FIVE),
    "body returns a constant": call(lambda h, x: (cell(h, x)[0], W), H, XS),
    "body returns one output twice": call(lambda h, x: (cell(h, x)[0], (x, x, h, h)), H, XS),
    "body returns both swapped": call(lambda c, x: (x, c), np.float32(0), FIVE),
    "body returns weak outputs": call(lambda c, x: (c + 1, (c * 2, c * 2.0)), 0, FIVE),
    "carry a dict": call(lambda c, x: ({"b": cell(c["b"], x)[0], "a": c["a"] + 1}, c), {"b": H, "a": 0}, XS),
    "carry a NamedTuple": call(lambda c, x: (State(cell(c.h, x)[0], c.n + 1), c), State(H, 0), XS),
    "carry a dataclass": call(lambda c, x: (Held(cell(c.h, x)[0], c.n + 1), c), Held(H, 0), XS),
    "carry with its parts kept": call(lambda c, x: ((cell(c[0], x)[0], c[1]), c[1]), (H, 1.5), XS),
    "weak sum in a cell": call(lambda c, x: ((cell(c[0], x)[0], c[1] + 0.5), c[1]), (H, 1), XS),
    "body a builtin": call(divmod, np.int32(7), np.arange(1, 4, dtype=np.int32)),
    "body jitted": call(jax.jit(cell), H, XS),
    "body with defaults": call(lambda h, x, p=W: (jnp.tanh(h @ p + x @ p), x), H, XS),
    "in jit, Python leaves": in_jit(count, 0, FIVE),
    "in grad, a Python leaf": in_grad(lambda c, x: (c * x, c), 2.0, FIVE),
    "in grad, a Python leaf beside a cell": lambda scan: jax.grad(lambda c: jnp.sum(scan(scaled, (H, c), XS)[1]))(2.0),
}


def is_key(x):
    return jax.dtypes.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)


def complaint(scan, make):
    """(type, message) of what the call raises, without addresses."""
    with pytest.raises(BaseException) as caught:
        make(scan)
    return type(caught.value), ADDRESS.sub("0x", str(caught.value))


def answer(scan, make):
    """Structure; of each leaf class, type and weakness; the values."""
    leaves, tree = jax.tree.flatten(make(scan))
    kind = lambda x: "array" if isinstance(x, jax.Array) else type(x).__name__
    described = [(kind(x), str(jax.typeof(x)), getattr(x, "weak_type", None)) for x in leaves]
    return tree, described, [np.asarray(jax.random.key_data(x) if is_key(x) else x, np.complex128) for x in leaves]


def assert_same_answer(ours, theirs):
    assert ours[:2] == theirs[:2]
    for a, b in zip(ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def with_options(**options):
    return lambda *args, **given: rj.scan(*args, **given, **options)


@functools.cache
def expected(name):
    return complaint(jax.lax.scan, REFUSED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_words_of_lax_scan(name):
    assert complaint(rj.scan, REFUSED[name]) == expected(name)


@pytest.mark.parametrize("option", [{"fuse": "all"}, {"matmul_dtype": jnp.bfloat16}, {"checkpoint": 2}], ids=str)
def test_refused_alike_with_every_option(option):
    # The signature is ours; `lax.scan` takes an `unroll` of 1.5, and a shape in place of an array, and breaks on them
    # later, where segments break otherwise.
    names = [n for n in REFUSED if n not in ("no arguments", "no init", "unroll a float", "xs a shape")]
    ours = {name: complaint(with_options(**option), REFUSED[name]) for name in names}
    assert ours == {name: expected(name) for name in names}


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_the_values_and_types_of_lax_scan(name):
    with jax.numpy_dtype_promotion("standard"):
        assert_same_answer(answer(rj.scan, ACCEPTED[name]), answer(jax.lax.scan, ACCEPTED[name]))


@pytest.mark.parametrize("name", EITHER)
def test_accepted_or_refused_alike(name):
    try:
        theirs = answer(jax.lax.scan, EITHER[name])
    except Exception:
        assert complaint(rj.scan, EITHER[name]) == complaint(jax.lax.scan, EITHER[name])
    else:
        assert_same_answer(answer(rj.scan, EITHER[name]), theirs)


SOME = [
    "xs not read",
    "length 1",
    "init weak, kept",
    "weak sum in a cell",
    "carry a dataclass",
    "body returns a list of two",
]


@pytest.mark.parametrize("fuse", ["all", "hoist", "defer", False])
def test_accepted_alike_with_every_mode(fuse):
    for name in SOME:
        assert_same_answer(answer(with_options(fuse=fuse), ACCEPTED[name]), answer(jax.lax.scan, ACCEPTED[name]))


def test_accepted_alike_in_segments():
    """Segments end in arrays, also where `lax.scan` hands a Python number through."""
    for name in [*SOME, "length a digit", "length an array", "length 0", "unroll True", "reverse"]:
        tree, types, values = answer(with_options(checkpoint=2), ACCEPTED[name])
        theirs = answer(jax.lax.scan, ACCEPTED[name])
        assert_same_answer((tree, [t[1] for t in types], values), (theirs[0], [t[1] for t in theirs[1]], theirs[2]))


def test_alike_without_jit():
    with jax.disable_jit():
        for make in (call(keep, 0.0, None, length=0), call(keep, 0.0, [1, 2]), call(raise_key_error, 0.0, FIVE)):
            assert complaint(rj.scan, make) == complaint(jax.lax.scan, make)
        for name in ("init an int", "xs a dataclass", "carry a NamedTuple", "body returns None as output"):
            assert_same_answer(answer(rj.scan, ACCEPTED[name]), answer(jax.lax.scan, ACCEPTED[name]))
