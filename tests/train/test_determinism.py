"""The same code gives the same program in every trace: resume to the bit, and compilation caches, stand on it."""

import jax
import jax.numpy as jnp

import rnnjax as rj


def test_two_traces_give_one_program(key):
    cell, xs = rj.Readout(rj.Stack(rj.LSTM(3), rj.GRU(3)), 2), jnp.ones((4, 2, 2))
    params = cell.init(key, xs[0])

    def program():
        return jax.jit(jax.grad(lambda p: jnp.sum(rj.unroll(cell, p, xs)[1]))).lower(params).as_text()

    first = program()
    assert all(program() == first for _ in range(3))
