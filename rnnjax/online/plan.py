"""Which entries of the influence ``d carry / d params`` are kept, in what blocks, and by how few derivatives they are found.

Params whose entries lie in the same rows make a class. A block holds classes of one form, so that all of them are one batched
product: ``M [classes, rows, params]``. Rows (or columns) of a Jacobian that have no column (row) in common are found by one
derivative in a direction that adds them up (Curtis, Powell, Reid 1974); they share a colour.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse


class Block(NamedTuple):
    """rows ``[C or 1, r]``, params ``[C, p]``: which entries ``M [C, r, p]`` are. Masks of what the step, and the start, write
    there directly ``[C, r]``, and of what one row hands to another ``[C or 1, r, r]``."""

    rows: np.ndarray
    params: np.ndarray
    direct: np.ndarray
    start: np.ndarray
    handed: np.ndarray


class Plan(NamedTuple):
    """blocks, and colours: of rows of ``d carry' / d params`` and of the start's, of columns of ``d carry' / d carry``."""

    blocks: tuple[Block, ...]
    direct_colours: np.ndarray
    start_colours: np.ndarray | None
    carry_colours: np.ndarray
    entries: int


def make_plan(direct: Any, carry: Any, start: Any | None, reach: int | None) -> Plan:
    """direct ``[d, P]``, carry ``[d, d]``, start ``[d, P]``: sparse bool, what depends on what. reach: steps after which an entry
    may come to be nonzero; None for any number."""
    begun = sparse.csr_matrix(direct.shape, dtype=bool) if start is None else start
    classes = _classes(direct.tocsc(), begun.tocsc())
    kept = _reached([set(a) | set(b) for a, b in classes], carry, reach)
    blocks = tuple(_blocks(classes, kept, carry))
    return Plan(
        blocks,
        colours(direct),
        None if start is None else colours(start),
        colours(carry.T),
        sum(b.direct.size * b.params.shape[1] for b in blocks),
    )


def colours(matrix: Any) -> np.ndarray:
    """For each row a colour, such that rows of one colour have no column in common: the first that is free."""
    rows = matrix.astype(np.int32).tocsr()
    clash = (rows @ rows.T).tocsr()
    found = np.full(matrix.shape[0], -1)
    for i in range(matrix.shape[0]):
        taken = set(found[clash.indices[clash.indptr[i] : clash.indptr[i + 1]]])
        found[i] = next(c for c in range(matrix.shape[0]) if c not in taken)
    return found


def seeds(colour: np.ndarray) -> np.ndarray:
    """``[colours, d]``: for each colour ones at its rows."""
    return (colour == np.arange(colour.max(initial=-1) + 1)[:, None]).astype(np.float32)


def _classes(direct: Any, start: Any) -> dict[tuple, list[int]]:
    """Params by (rows they reach in one step, rows they reach through the start)."""
    found = defaultdict(list)
    a, b = direct.sorted_indices(), start.sorted_indices()
    for p in range(direct.shape[1]):
        key = tuple(tuple(m.indices[m.indptr[p] : m.indptr[p + 1]].tolist()) for m in (a, b))
        if key != ((), ()):
            found[key].append(p)
    return found


def _reached(rows: list[set], carry: Any, reach: int | None) -> list[tuple[int, ...]]:
    """For each set of rows those that they reach within ``reach`` steps, themselves among them."""
    d = carry.shape[0]
    at = [(i, c) for c, some in enumerate(rows) for i in some]
    index = np.array(at, np.int64).reshape(-1, 2).T
    kept = sparse.csr_matrix((np.ones(len(at), np.int32), (index[0], index[1])), shape=(d, len(rows)))
    base, step = kept, carry.astype(np.int32)
    for _ in range(d if reach is None else reach - 1):
        more = base + step @ kept
        more.data[:] = 1
        if more.nnz == kept.nnz:
            break
        kept = more
    kept = kept.tocsc().sorted_indices()
    return [tuple(kept.indices[kept.indptr[c] : kept.indptr[c + 1]].tolist()) for c in range(len(rows))]


def _blocks(classes: dict[tuple, list[int]], kept: list[tuple[int, ...]], carry: Any) -> list[Block]:
    """Classes with the same rows in one block with one matrix for all; else those of one form."""
    members = list(zip(classes.items(), kept, strict=True))
    shared = defaultdict(int)
    for _, rows in members:
        shared[rows] += 1
    forms = defaultdict(list)
    for (key, params), rows in members:
        forms[rows if shared[rows] > 1 else len(rows), len(params)].append((key, params, rows))
    dense = carry.toarray().astype(bool)
    return [_block(members, isinstance(form[0], tuple), dense) for form, members in forms.items()]


def _block(members: list[Any], one: bool, carry: np.ndarray) -> Block:
    every = np.array([rows for _, _, rows in members], np.int32)
    inside = lambda which: np.array([np.isin(rows, key[which]) for key, _, rows in members])
    rows = every[:1] if one else every
    params = np.array([params for _, params, _ in members], np.int32)
    return Block(rows, params, inside(0), inside(1), carry[rows[:, :, None], rows[:, None, :]])
