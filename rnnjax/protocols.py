"""What the library may ask of a cell: three methods (`Cell`), and the optional parts, each found by `isinstance`.

A cell claims an optional part by having its methods; nothing is inherited. `rnnjax.testing.check_cell` checks what a cell claims.

Shapes by the axis letters of `rnnjax.base`. "Cell" stands for anything with a `Cell`'s methods: wrappers are cells too.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax

from rnnjax.base import Carry, Key, Params
from rnnjax.carry_maps import CarryChange


@runtime_checkable
class Cell(Protocol):
    """One time step of a recurrent network, as a pure function of its parameters.

    ``carry, y = cell(params, carry, x, key=None)``

    params: nested dict of arrays with names that say what they are (``"input"``, ``"recurrent"``, ``"bias"``).
    carry: an array ``[*B, H]`` or a NamedTuple of arrays, each leading with the batch axes.
    x: one step's input ``[*B, I]``.
    key: only for cells with noise; no key means deterministic.
    y: one step's output ``[*B, O]`` (any pytree).

    Hyperparameters are fields of a frozen dataclass (see `rnnjax.cell`); whatever may be learned is in ``params``.
    A user's bare function ``f(params, carry, x)`` is accepted wherever a cell is, as long as a start ``carry`` is given.
    """

    def init(self, key: jax.Array, x: Any) -> Params:
        """Fresh parameters for one step's input ``x [*B, I]`` (an array or a `jax.ShapeDtypeStruct`)."""
        ...

    def initial_carry(self, params: Params, x: Any) -> Carry:
        """The carry before the first step: zeros, unless the cell learns its start. ``x``: one step's input."""
        ...

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        """One pure step: ``(carry, y)``."""
        ...


@runtime_checkable
class OwnStart(Protocol):
    """Anything with a step that knows where to start; a user's bare function does not, and is given a carry."""

    def initial_carry(self, params: Params, x: Any) -> Carry:
        """The carry before the first step."""
        ...


@runtime_checkable
class InputAxes(Protocol):
    """A cell whose one step's input is not a vector: an image ``[*B, *S, I]``, or a token ``[*B]``.

    Batch axes are what comes before; a cell without this has one axis, its features.
    """

    @property
    def input_ndim(self) -> int:
        """How many axes one step's input has without batch axes."""
        ...


@runtime_checkable
class StepLength(Protocol):
    """A cell in continuous time, whose steps need not be equally long."""

    @property
    def elapsed(self) -> bool:
        """Whether the last feature of x is how long the step is; False: all are alike."""
        ...


@runtime_checkable
class OncePerSequence(Protocol):
    """A cell that makes something once for a whole sequence, such as a mask that is held over time."""

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        """What stands in for the params in ``initial_carry`` and in the steps of this sequence; both take either.

        key: ``fold_in(key, 2**32 - 1)`` of the key given to `rnnjax.unroll`, or None. x: one step's input or its ShapeDtypeStruct.
        """
        ...


@runtime_checkable
class SeveralLayers(Protocol):
    """Cells on top of one another as one cell: ``carry_l, x_{l+1} = cell_l(params_l, carry_l, x_l, key_l)``, ``y = x_L``.

    The library then runs layer after layer over the whole sequence. All methods give one entry a layer, from the input up.
    """

    def layers_inside(self) -> tuple[Any, ...]:
        """The cells."""
        ...

    def params_of_layers(self, params: Params) -> tuple[Params, ...]:
        """Their params."""
        ...

    def keys_of_layers(self, key: Key) -> tuple[Key, ...]:
        """The keys that one step of each takes, from the key of one step; None for None."""
        ...

    def carries_of_layers(self, carry: Carry) -> tuple[Carry, ...]:
        """Their parts of the carry, or of anything of its structure; leading axes (time) stay."""
        ...

    def carry_of_layers(self, carries: tuple[Carry, ...]) -> Carry:
        """The whole carry of their parts; leading axes (time) stay."""
        ...


@runtime_checkable
class OneInside(Protocol):
    """A wrapper round one cell whose carry is that cell's, unchanged: it acts on the input before and on the output after.

    ``inner_key, kept = keys_inside(key)``;
    ``carry', y = cell_inside()(params_inside(params), carry, input_inside(params, x, kept), inner_key)``;
    the result is ``carry', output_around(params, x, carry', y, kept)``. `rnnjax.wrappers.around` makes the step of these.
    The library then runs the cell inside by itself, over the whole sequence or in parallel, and the wrapper round all of it.
    """

    @property
    def output_sees_carry(self) -> bool:
        """Whether `output_around` reads the carry after the step; it is given None otherwise."""
        ...

    def cell_inside(self) -> Any:
        """The cell."""
        ...

    def params_inside(self, params: Params) -> Params:
        """Its params."""
        ...

    def keys_inside(self, key: Key) -> tuple[Key, Key]:
        """The key of the cell inside and the key kept, from the key of one step; None, None for None."""
        ...

    def input_inside(self, params: Params, x: Any, key: Key) -> Any:
        """What the cell inside reads. key: the one kept."""
        ...

    def output_around(self, params: Params, x: Any, carry: Carry | None, y: Any, key: Key) -> Any:
        """The output, from the wrapper's own x and the output y of the cell inside. key: the one kept."""
        ...


@runtime_checkable
class CarryAround(OneInside, Protocol):
    """A wrapper round one cell that changes its carry element by element, before the step and after it.

    ``carry' = keep * carry + scale * f(before * carry) + shift``, f the step of the cell inside on the carry alone. Where f is affine
    in the carry this is too, so that ``method="associative"`` takes it. All of `OneInside` holds but for the carry and for
    outputs that follow it.
    """

    def changes_carry(self, noisy: bool) -> bool:
        """Whether a step changes the carry at all. noisy: whether it has a key."""
        ...

    def carry_change(self, params: Params, key: Key, carry: Carry) -> CarryChange:
        """The change of one step. key: the one kept. carry: one of this structure and these shapes, whose values do not count."""
        ...


@runtime_checkable
class NormalisedInside(Protocol):
    """A cell that can normalise its own gates (`rnnjax.LayerNorm`)."""

    def with_layer_norm(self) -> Any:
        """The same cell that does."""
        ...


@runtime_checkable
class LinearInTime(Protocol):
    """A cell whose step is a map of the carry that composes, chosen by x alone, and an output from the carry after it.

    ``carry' = linear_maps(params, x).apply(carry)``, ``y = output_of_carry(params, carry', x)``; keys are not used. The library
    then runs all steps in parallel (``method="associative"``).
    """

    @property
    def linear_in_time(self) -> bool:
        """False where the options of this cell make it not linear."""
        ...

    def linear_maps(self, params: Params, x: Any) -> Any:
        """`rnnjax.carry_maps.Affine` or `Shift`, of one step or with any number of leading time axes, as x has them."""
        ...

    def output_of_carry(self, params: Params, carry: Carry, x: Any) -> Any:
        """The output from the carry after the step, with leading time axes alike."""
        ...


@runtime_checkable
class InChunks(Protocol):
    """A cell linear in time whose carry is too large to be kept for every step: some steps at a time are run in parallel."""

    @property
    def chunk_size(self) -> int:
        """How many steps at a time."""
        ...

    def run_chunk(
        self, params: Params, start: Carry, fresh: Carry, xs: Any, valid: Any, reset: Any
    ) -> tuple[Carry, Any]:
        """All steps of ``xs [T, *B, I]``: ``(last carry, ys)``.

        valid: bool ``[T, *B]`` or None; a step that is not leaves the carry. reset: the same; before the step, valid or not, the
        carry becomes ``fresh``, and nothing of the old one, NaN included, goes through.
        """
        ...


@runtime_checkable
class CarriesInChunks(InChunks, Protocol):
    """A cell in chunks that can also give the carry after every step of a chunk (`rnnjax.Record`); else a chunk is one step then."""

    def chunk_carries(self, params: Params, start: Carry, fresh: Carry, xs: Any, valid: Any, reset: Any) -> Carry:
        """The carries after all steps, with a leading time axis; arguments as of ``run_chunk``."""
        ...


@runtime_checkable
class UnitBlocks(Protocol):
    """A cell whose carry has several parts of one shape, of which number i of each belongs to unit i: (h_i, c_i) of an LSTM.

    ``method="quasi_deer"`` then keeps of a step's Jacobian what joins the numbers of one unit (2 x 2 for an LSTM), not its diagonal alone.
    """

    @property
    def blocks_by_unit(self) -> bool:
        """False where the options of this cell give its parts other shapes."""
        ...


def input_axes(cell: Any) -> int:
    """How many axes one step's input has without batch axes."""
    return cell.input_ndim if isinstance(cell, InputAxes) else 1


def is_linear(cell: Any) -> bool:
    """Whether ``method="associative"`` takes this cell: it is linear in time, or all that it wraps or stacks is."""
    if isinstance(cell, SeveralLayers):
        return all(map(is_linear, cell.layers_inside()))
    if isinstance(cell, OneInside):
        return is_linear(cell.cell_inside())
    return isinstance(cell, InChunks) or (isinstance(cell, LinearInTime) and cell.linear_in_time)


def prepare(cell: Any, params: Params, key: Key, x: Any) -> Params:
    """What a cell makes once per sequence, before the loop, in place of its params; see `OncePerSequence`."""
    return cell.prepare(params, key, x) if isinstance(cell, OncePerSequence) else params
