"""Ways round discs in a plane: what they cost, and how short they can be."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Node = tuple[int, ...]
COLLISION = 10.0  # what a metre through a disc costs, beside the metre


class Discs(NamedTuple):
    """K discs for each example: centres ``[*B, K, 2]`` and radii ``[*B, K]``, m."""

    centre: jax.Array
    radius: jax.Array


def depth(discs: Discs, place: jax.Array) -> jax.Array:
    """How deep a place ``[*B, 2]`` lies in each disc, m ``[*B, K]``: below zero outside."""
    away = place[..., None, :] - discs.centre
    return discs.radius - jnp.sqrt((away**2).sum(-1) + 1e-12)


def cost(discs: Discs, way: jax.Array, blur: float | None = None) -> tuple[jax.Array, jax.Array]:
    """Length of a way ``[T, *B, 2]``, and how much of it lies in discs, m ``[*B]``.

    blur: the second grows linearly from so far outside of a disc on, so that it has a gradient; None counts what is inside.
    """
    pieces = jnp.sqrt((jnp.diff(way, axis=0) ** 2).sum(-1) + 1e-12)
    deep = depth(discs, (way[1:] + way[:-1]) / 2).max(-1)
    inside = (deep > 0).astype(way.dtype) if blur is None else jnp.maximum(deep / blur + 1, 0)
    return pieces.sum(0), (pieces * inside).sum(0)


def straight(begin: jax.Array, end: jax.Array, points: int = 401) -> jax.Array:
    """The straight way, ``[points, *B, 2]``."""
    share = jnp.linspace(0, 1, points).reshape(-1, *[1] * begin.ndim)
    return begin + share * (end - begin)


def shortest(discs: Discs, begin: np.ndarray, end: np.ndarray, cells: int = 64) -> float:
    """Length of the shortest way of one example round its discs, by A* on a grid, then pulled taut; inf where there is none.

    Nodes are ``cells`` to a side of a square round both ends and all discs; a step goes to one of 16 neighbours. Pulled taut: corners
    whose neighbours see each other are left out.
    Source: Hart, Nilsson and Raphael 1968, IEEE Trans. SSC 4:100.
    """
    centre, radius = np.asarray(discs.centre, float), np.asarray(discs.radius, float)
    ends = np.stack([begin, end]).astype(float)
    low = np.minimum(ends.min(0), (centre - radius[:, None]).min(0)) - 0.05
    side = (np.maximum(ends.max(0), (centre + radius[:, None]).max(0)) + 0.05 - low).max() / (cells - 1)
    place = lambda node: low + side * np.array(node)
    free = lambda a, b: _free(centre, radius, a, b)
    first, last = (tuple(int(i) for i in np.rint((point - low) / side)) for point in ends)
    came = _a_star(first, last, cells, lambda a, b: free(place(a), place(b)))
    if last not in came:
        return float("inf")
    node, way = last, [ends[1]]
    while came[node] != node:
        way.append(place(node))
        node = came[node]
    return _length(_taut([*way, ends[0]], free))


def _a_star(first: Node, last: Node, cells: int, free: Callable[[Node, Node], bool]) -> dict[Node, Node]:
    """Where each node was come from, until the last is reached."""
    best, came, todo = {first: 0.0}, {first: first}, [(0.0, first, first)]
    closed: dict[Node, Node] = {}
    while todo:
        _, node, before = heapq.heappop(todo)
        if node in closed:
            continue
        closed[node] = before
        if node == last:
            break
        for move in MOVES:
            near = (node[0] + move[0], node[1] + move[1])
            walked = best[node] + np.hypot(*move)
            inside = 0 <= near[0] < cells and 0 <= near[1] < cells
            if inside and near not in closed and walked < best.get(near, np.inf) and free(node, near):
                best[near], came[near] = walked, node
                heapq.heappush(todo, (walked + np.hypot(near[0] - last[0], near[1] - last[1]), near, node))
    return closed


MOVES = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if np.gcd(i, j) == 1]


def _free(centre: np.ndarray, radius: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the line from a to b meets no disc."""
    along = b - a
    share = np.clip(((centre - a) @ along) / max(along @ along, 1e-12), 0, 1)
    return bool((np.hypot(*(a + share[:, None] * along - centre).T) >= radius).all())


def _taut(way: list[np.ndarray], free: Callable[[np.ndarray, np.ndarray], bool]) -> list[np.ndarray]:
    """Each point goes on to the farthest one that it sees."""
    kept, at = [way[0]], 0
    while at < len(way) - 1:
        at = next((i for i in range(len(way) - 1, at, -1) if free(way[at], way[i])), at + 1)
        kept.append(way[at])
    return kept


def _length(way: list[np.ndarray]) -> float:
    return float(np.hypot(*np.diff(np.stack(way), axis=0).T).sum())
