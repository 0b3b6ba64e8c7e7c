"""The contract: a cell is a pure function `cell(params, carry, x) -> (carry, y)`.

Axis letters, used in every docstring of the library

    T time · B batch (any number of leading batch axes, none included) · I input features
    H hidden features · O output features · L layers

Core functions are time-major like `jax.lax.scan`: ``xs [T, *B, I]``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import namedtuple
from collections.abc import Callable, Hashable, Mapping
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

type_of = type  # `type` is a popular name for a field; keep the builtin reachable
Params = Any  # nested dict of arrays
Carry = Any  # an array or a NamedTuple of arrays, all leading with the batch axes
Key = jax.Array | None
C = TypeVar("C")


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def _check_field(owner: str, name: str, value: Any) -> None:
    if any(_is_array(leaf) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"{owner}: field {name!r} must be a plain hyperparameter, got an array; "
            "arrays belong in params (return them from init) or in the carry"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{owner}: field {name!r} must be hashable, got {type_of(value).__name__}; use a tuple or a frozen dataclass"
        ) from None


def _compact_repr(self: Any) -> str:
    """`LSTM(128, peephole=True)`: required fields by position, the rest only where they differ from the default."""
    parts = []
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if field.default is dataclasses.MISSING:
            parts.append(repr(value) if not field.kw_only else f"{field.name}={value!r}")
        elif value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{type_of(self).__name__}({', '.join(parts)})"


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def cell(cls: type[C]) -> type[C]:
    """Class decorator for cells, wrappers and layers: a frozen dataclass of hyperparameters, static under jit.

    Makes ``cls`` a frozen dataclass (equal and hashable by its fields, printable), registers it as static with JAX (a
    cell may be passed to a jitted function or closed over; it holds no leaves), and refuses at construction any field
    that holds an array or is not hashable. A ``__post_init__`` of the class still runs, before the check.

    Raises: TypeError naming the class and the field.

    >>> import jax.numpy as jnp
    >>> import rnnjax as rj
    >>> @rj.cell
    ... class Leaky:
    ...     features: int
    ...     leak: float = 0.1
    ...     def init(self, key, x):
    ...         return {"input": jnp.zeros((x.shape[-1], self.features))}
    ...     def initial_carry(self, params, x):
    ...         return jnp.zeros(x.shape[:-1] + (self.features,))
    ...     def __call__(self, params, carry, x, key=None):
    ...         h = (1 - self.leak) * carry + self.leak * jnp.tanh(x @ params["input"])
    ...         return h, h
    >>> Leaky(3, leak=0.2)
    Leaky(3, leak=0.2)
    >>> Leaky(3, leak=jnp.ones(3))
    Traceback (most recent call last):
    ...
    TypeError: Leaky: field 'leak' must be a plain hyperparameter, got an array; ...
    """
    _check_at_construction(cls)
    if "__repr__" not in cls.__dict__:
        setattr(cls, "__repr__", _compact_repr)
    return dataclasses.dataclass(frozen=True)(cls)


def _check_at_construction(cls: Any) -> None:
    """Instances of ``cls`` are checked when made, and static under jit; its subclasses likewise, with ``@cell`` or without.

    A ``__post_init__`` of its own runs after those of the classes it derives from, whether or not it calls them.
    """
    if "_own_post_init" in cls.__dict__:  # a subclass, seen before it got the decorator
        return
    derived = any("_own_post_init" in kind.__dict__ for kind in cls.__mro__)
    cls._own_post_init = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        for check in (kind.__dict__.get("_own_post_init") for kind in reversed(cls.__mro__)):
            if check is not None:
                check(self)
        for field in dataclasses.fields(self):
            _check_field(type_of(self).__name__, field.name, getattr(self, field.name))

    def __init_subclass__(sub: Any, **options: Any) -> None:
        super(cls, sub).__init_subclass__(**options)
        _check_at_construction(sub)

    cls.__post_init__ = __post_init__
    if not derived:
        cls.__init_subclass__ = classmethod(__init_subclass__)
    jax.tree_util.register_static(cls)


def any_rank(cls: type[C]) -> type[C]:
    """Class decorator: its methods promote ranks (``[B, H] + [H]``) where the user's own code may not.

    That is ``jax.numpy_rank_promotion("raise")``, which is there to find mistakes, of which these are none.
    """
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and (not name.startswith("__") or name == "__call__"):
            setattr(cls, name, _at_any_rank(method))
    return cls


def _at_any_rank(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        if jax.config.jax_numpy_rank_promotion == "allow":  # pyright: ignore[reportAttributeAccessIssue]
            return method(*args, **options)
        with jax.numpy_rank_promotion("allow"):
            return method(*args, **options)

    return call


# -- carries of several layers -----------------------------------------------------------------------------------------


@cache
def carry_type(name: str, parts: tuple[str, ...]) -> Any:
    """The NamedTuple class for a carry whose parts are only known at run time (layers of a stack); one per signature."""
    kind = namedtuple(name, parts)
    kind.__reduce__ = lambda self: (_rebuild_carry, (name, parts, tuple(self)))  # picklable, though made at run time
    return kind


def _rebuild_carry(name: str, parts: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return carry_type(name, parts)(*values)


def layer_names(count: int) -> tuple[str, ...]:
    """("layer_0", "layer_1", ...): keys of params and parts of the carry of a stack or a sequence of layers."""
    return tuple(f"layer_{i}" for i in range(count))


# -- checks at build and trace time ------------------------------------------------------------------------------------


def name_of(cell: Any) -> str:
    """How messages call a cell: `LSTM(128)`, or the name of a bare function."""
    return getattr(cell, "__name__", None) or repr(cell)


def check_size(owner: str, name: str, value: Any) -> None:
    """A number of features, layers, heads: a positive int."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be an int, got {value!r} ({type_of(value).__name__})")
    if value < 1:
        raise ValueError(f"{owner}: {name} must be at least 1, got {value}")


def check_rate(owner: str, name: str, value: Any) -> None:
    """A probability in [0, 1)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be a float, got {value!r} ({type_of(value).__name__})")
    if not 0 <= value < 1:
        raise ValueError(f"{owner}: {name} must be at least 0 and below 1, got {value}")


def check_choice(owner: str, name: str, value: Any, choices: Any) -> None:
    """One of a few names; the message suggests the nearest."""
    if value not in choices:
        from difflib import get_close_matches

        near = get_close_matches(str(value), [c for c in choices if isinstance(c, str)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}")


def check_input(cell: Any, x: Any, features: int | None = None, ndim: int = 1) -> None:
    """``x`` is one step's input: an inexact array with at least ``ndim`` axes, its last of size ``features`` if known."""
    owner = name_of(cell)
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise TypeError(f"{owner}: x must be an array or a ShapeDtypeStruct, got {type_of(x).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(f"{owner}: x must be floating point, got {x.dtype}; embed or one-hot integer tokens first")
    if len(x.shape) < ndim:
        raise ValueError(f"{owner}: x must be one step's input [*B, I] with at least {ndim} axis, got shape {x.shape}")
    if features is not None and x.shape[-1] != features:
        raise ValueError(
            f"{owner}: x has {x.shape[-1]} features (shape {tuple(x.shape)}), the parameters were made for {features}; "
            "pass one step's input [*B, I] of the size given to init"
        )


def check_tokens(
    owner: str, name: str, tokens: Any, count: int, valid: Any = None, but: int | None = None
) -> jax.Array:
    """Integer ``tokens``, where their values are known each in ``0..count - 1`` and not ``but``; where not ``valid``, anything.

    Inside jit and vmap the values are not known, and not looked at.
    """
    array = jnp.asarray(tokens)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{owner}: {name} must be integer tokens, got {array.dtype}; encode them by a vocabulary first")
    if is_known(array) and (valid is None or is_known(valid)):
        seen = np.asarray(array) if valid is None else np.asarray(array)[np.asarray(valid)]
        if seen.size and (seen.min() < 0 or seen.max() >= count):
            worst = seen.min() if seen.min() < 0 else seen.max()
            raise ValueError(
                f"{owner}: {name} must lie in 0..{count - 1}, a vocabulary of {count}, got {worst}; "
                "give unknown tokens a number of their own, and padding any number of the vocabulary"
            )
        if but is not None and (seen == but).any():
            raise ValueError(f"{owner}: {name} must not hold {but}, which stands for no token; number them round it")
    return array


def is_known(array: Any) -> bool:
    """Whether the values of an array can be read now: it is not being traced, and no part of it lies on another host."""
    return not isinstance(array, jax.core.Tracer) and getattr(array, "is_fully_addressable", True)


def check_params(cell: Any, params: Any, names: tuple[str, ...]) -> None:
    """``params`` is a dict with these names."""
    if not isinstance(params, Mapping):
        raise TypeError(f"{name_of(cell)}: params must be a dict from init, got {type_of(params).__name__}")
    missing = [n for n in names if n not in params]
    if missing:
        raise ValueError(f"{name_of(cell)}: params lack {missing}, got {sorted(params)}; make them with init(key, x)")


def check_carry(cell: Any, carry: Any, x: Any, features: int, kind: Any = None) -> None:
    """``carry`` (every part of it) is ``[*B, features]`` with the batch axes of ``x``; ``kind``: its NamedTuple, if any."""
    if kind is None and not hasattr(carry, "shape"):
        raise TypeError(f"{name_of(cell)}: carry must be one array [*B, {features}], got {type_of(carry).__name__}")
    if kind is not None and not isinstance(carry, kind):
        raise TypeError(
            f"{name_of(cell)}: carry must be {kind.__name__}({', '.join(kind._fields)}), got {type_of(carry).__name__}; "
            "libraries disagree on the order of its parts, so they are named here"
        )
    want = tuple(x.shape[:-1]) + (features,)
    for leaf in jax.tree.leaves(carry):
        if tuple(leaf.shape) != want:
            raise ValueError(
                f"{name_of(cell)}: carry must have shape {want} for x of shape {tuple(x.shape)}, got "
                f"{tuple(leaf.shape)}; start from initial_carry(params, x)"
            )


def zeros_like_step(params: Any, x: Any, *shape: int) -> jax.Array:
    """Zeros ``[*B, *shape]`` in the dtype that the params and ``x`` promote to."""
    return jnp.zeros((*x.shape[:-1], *shape), step_dtype(params, x))


def step_dtype(params: Any, x: Any) -> Any:
    """The dtype that inexact params and ``x`` promote to."""
    leaves = [leaf for leaf in jax.tree.leaves((params, x)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.result_type(*(leaf.dtype for leaf in leaves)) if leaves else jnp.result_type(float)


def param_dtype(x: Any) -> Any:
    """The dtype for new parameters: that of a floating ``x``, else the default float."""
    return x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.result_type(float)


def wide_dtype(dtype: Any) -> Any:
    """``dtype``, or float32 in place of half precision."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def wide(a: jax.Array) -> jax.Array:
    """In float32 at least."""
    return a.astype(wide_dtype(a.dtype))


def takes_key(function: Any) -> bool:
    """Whether a cell or a bare function has a ``key`` among its arguments."""
    return (_looked_up if isinstance(function, Hashable) else _look_up)(function)


def _look_up(function: Any) -> bool:
    """Whether the signature has a key."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


_looked_up = lru_cache(maxsize=1024)(_look_up)


def call_step(cell: Any, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
    """One step of a cell or a bare function; ``key`` is handed on only where there is one."""
    if key is None:
        return cell(params, carry, x)
    if not takes_key(cell):
        raise TypeError(f"{name_of(cell)}: got a key but takes none; add `key=None` to its signature or drop key=")
    return cell(params, carry, x, key=key)


def sequence_key(key: Key) -> Key:
    """The key for ``prepare``: of the sequence as a whole, apart from those that ``split(key, T)`` gives to its steps."""
    return None if key is None else jax.random.fold_in(key, 2**32 - 1)
