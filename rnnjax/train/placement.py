"""Where the arrays of a training step lie: rows of the batch and of the carry split over a mesh, all else whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rnnjax._jax import Unsupported
from rnnjax.train.parts import gradient_in_parts, spec
from rnnjax.train.states import Unprovable

Gradient = Callable[[Any, Any, Any, Any], tuple[jax.Array, Any, Any, Any]]
WHOLE = -1  # in place of the axis of an array that is not split


def check_mesh(who: str, mesh: Any) -> Mesh:
    """The same devices under automatic axes: the step itself says what goes where. Raises: TypeError, ValueError."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{who}: mesh must be a jax.sharding.Mesh, got {mesh!r}; write jax.make_mesh((2,), ('data',))")
    if not mesh.axis_names:
        raise ValueError(f"{who}: mesh has no axis to split the batch over; write jax.make_mesh((2,), ('data',))")
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def devices_of(mesh: Mesh | None) -> int:
    """Over how many devices a batch is split."""
    return 1 if mesh is None else mesh.shape[mesh.axis_names[0]]


def rows_here(mesh: Mesh) -> int:
    """Into how many parts the rows of this process are split: all, where there is one process."""
    slices = mesh.devices.reshape(devices_of(mesh), -1)
    return sum(any(d.process_index == jax.process_index() for d in devices) for devices in slices)


def spans_processes(mesh: Mesh) -> bool:
    """Whether devices of several processes are in it."""
    return len({device.process_index for device in mesh.devices.flat}) > 1


class Layout:
    """Which axis of each array a mesh's first axis splits. In a program of several processes a batch is their own rows.

    who: named in errors. batch_axis: an int, or a pytree prefix of the batch with ints and None (not split).
    """

    def __init__(self, who: str, mesh: Mesh, batch_axis: Any):
        self.who, self.mesh, self.batch_axis = who, check_mesh(who, mesh), batch_axis
        self.name, self.parts, self.here = self.mesh.axis_names[0], devices_of(self.mesh), rows_here(self.mesh)

    def batch(self, batch: Any) -> Any:
        """The axis of each leaf of a batch. Raises: ValueError naming the leaf and the sizes."""
        none = lambda a: a is None
        try:
            axes = jax.tree.broadcast(self.batch_axis, batch, is_leaf=none)
        except ValueError:
            raise ValueError(
                f"{self.who}: batch_axis {self.batch_axis} must be an int or a tree prefix of the batch, which is "
                f"{jax.tree.structure(batch)}; give an int or None for each part of it"
            ) from None
        leaves, tree = jax.tree_util.tree_flatten_with_path(batch)
        given = jax.tree.leaves(axes, is_leaf=none)
        name = jax.tree_util.keystr
        found = [self.check(f"batch{name(p)}", a, x, self.here) for (p, x), a in zip(leaves, given, strict=True)]
        return jax.tree.unflatten(tree, found)

    def carry(self, carry: Any) -> Any:
        """The axis of each leaf of a carry: 0, but for numbers without axes."""
        check = lambda p, x: self.check(f"carry{jax.tree_util.keystr(p)}", 0 if np.ndim(x) else None, x, self.parts)
        return jax.tree_util.tree_map_with_path(check, carry)

    def check(self, what: str, axis: Any, leaf: Any, parts: int) -> int:
        """The axis, after a look at whether the mesh divides it."""
        shape = np.shape(leaf)
        if axis is None:
            return WHOLE
        if not isinstance(axis, int) or isinstance(axis, bool) or axis < 0:
            raise ValueError(f"{self.who}: batch_axis must be ints of at least 0 and None, got {axis!r} for {what}")
        if axis >= len(shape):
            raise ValueError(
                f"{self.who}: {what} of shape {shape} has no axis {axis} to split over {parts} devices; "
                "give batch_axis where its rows are, or None for what all devices read whole"
            )
        if shape[axis] % parts:
            raise ValueError(
                f"{self.who}: {what} of shape {shape} has {shape[axis]} rows on axis {axis}, which mesh axis "
                f"{self.name!r} of {parts} devices does not divide; take {near(shape[axis], parts)} rows, "
                f"or {largest_divisor(shape[axis], parts)} of the devices"
            )
        return axis

    def shardings(self, axes: Any) -> Any:
        """The sharding of each array, from its axis."""
        return jax.tree.map(lambda a: NamedSharding(self.mesh, spec(self.name, a)), axes)

    def whole(self, tree: Any) -> Any:
        """Shardings of arrays that every device has whole."""
        return jax.tree.map(lambda a: NamedSharding(self.mesh, PartitionSpec()), tree)


def near(rows: int, parts: int) -> int:
    """The nearest multiple, at least one of it."""
    return max(1, round(rows / parts)) * parts


def largest_divisor(rows: int, most: int) -> int:
    """The largest number of devices, at most `most`, that divides the rows."""
    return max(n for n in range(1, most + 1) if rows % n == 0)


def place(tree: Any, shardings: Any, own_rows: bool = False) -> Any:
    """Arrays as a sharding says, those that lie so already as they are; shapes (of `jax.eval_shape`) said to.

    own_rows: of a sharding over several processes, each has its part of the array; else each has it whole.
    """

    def one(x: Any, where: NamedSharding) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
        if getattr(x, "sharding", None) == where:
            return x
        return spread(x, where, own_rows) if spans_processes(where.mesh) else jax.device_put(x, where)

    return jax.tree.map(one, tree, shardings)


def spread(x: Any, where: NamedSharding, own_rows: bool) -> Any:
    """Of what this process has, an array over several processes."""
    if is_key(x):
        return jax.random.wrap_key_data(spread(jax.random.key_data(x), where, own_rows), impl=jax.random.key_impl(x))
    x = np.asarray(x)
    if own_rows:
        return jax.make_array_from_process_local_data(where, x)
    return jax.make_array_from_callback(x.shape, where, lambda index: x[index])


def unplaced(tree: Any) -> Any:
    """The same arrays whole, on the default device and free to be used with any other."""

    def one(x: Any) -> Any:
        if not isinstance(x, jax.Array) or len(x.sharding.device_set) == 1:
            return x
        if is_key(x):
            return jax.random.wrap_key_data(one(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jnp.array(whole_here(x), copy=True)  # a view would keep the step from reusing the buffer

    return jax.tree.map(one, tree)


def whole_here(x: jax.Array) -> np.ndarray:
    """All of an array in this process' memory; where others have parts of it, all must ask at once."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def is_key(x: Any) -> bool:
    """Whether an array is of typed random keys."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain_gradient(loss_fn: Callable) -> Gradient:
    """``(loss, carry, gradient for params, metrics)`` of ``loss_fn(params, carry, batch, key) -> (carry, loss[, metrics])``."""

    def gradient(params: Any, carry: Any, batch: Any, key: Any) -> tuple[jax.Array, Any, Any, Any]:
        def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            carried, loss, *metrics = loss_fn(params, carry, batch, key)
            return loss, (carried, metrics[0] if metrics else {})

        (loss, (carried, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return loss, carried, grads, metrics

    return gradient


def _alone(loss_fn: Callable) -> Callable:
    """``loss_fn``, which raises Unprovable when it is traced if it has metrics beside the loss."""

    def loss(*args: Any) -> Any:
        out = loss_fn(*args)
        if len(out) == 3:
            raise Unprovable("it has metrics beside the loss")
        return out

    return loss


class Placed:
    """A step whose arrays are put on a mesh before it runs; called and lowered like what `jax.jit` returns.

    placement: how its last trace was split over the devices, and why.
    """

    def __init__(self, loss_fn: Callable, stepper: Callable[[Gradient], Callable], layout: Layout):
        self._loss_fn, self._layout = loss_fn, layout
        self.placement = "not traced yet"
        step = stepper(self._gradient)

        def stay(state: Any, batch: Any, key: Any = None) -> Any:
            new, report = step(state, batch, key)
            return tuple(map(jax.lax.with_sharding_constraint, (new, report), (self._where(new), layout.whole(report))))

        self._step = jax.jit(stay, donate_argnums=0)

    def __call__(self, state: Any, batch: Any, key: Any = None) -> Any:
        with self._alone():
            return self._step(*self._placed(state, batch, key))

    def lower(self, state: Any, batch: Any, key: Any = None) -> Any:
        """As `lower` of a jitted function; arrays or their shapes."""
        with self._alone():
            return self._step.lower(*self._placed(state, batch, key))

    def _alone(self) -> Any:
        """Out of the mesh that the user has set, where one is: the step has its own."""
        unset = jax.sharding.get_abstract_mesh().empty
        return contextlib.nullcontext() if unset else jax.set_mesh(self._layout.mesh)

    def _placed(self, state: Any, batch: Any, key: Any) -> tuple:
        at = self._layout.shardings(self._layout.batch(batch))
        return place(state, self._where(state)), place(batch, at, own_rows=True), place(key, self._layout.whole(key))

    def _where(self, state: Any) -> Any:
        layout = self._layout
        return layout.whole(state)._replace(carry=layout.shardings(layout.carry(state.carry)))

    def _gradient(self, params: Any, carry: Any, batch: Any, key: Any) -> tuple[jax.Array, Any, Any, Any]:
        layout, none = self._layout, lambda tree: jax.tree.map(lambda _: WHOLE, tree)
        args = (params, carry, batch, key)
        axes = (none(params), layout.carry(carry), layout.batch(batch), none(key))
        try:
            if layout.parts == 1:
                raise Unprovable("there is one")
            out = gradient_in_parts(_alone(self._loss_fn), layout.mesh, args, axes)
        except (Unprovable, Unsupported) as why:
            self.placement = f"partitioned by XLA over {layout.parts} devices: {why}"
            return plain_gradient(self._loss_fn)(*args)
        self.placement = f"each of {layout.parts} devices has its own rows; one sum over devices"
        return *out, {}
