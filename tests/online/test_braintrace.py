"""braintrace's exact form on one GRU: the same gradients, step by step what stays of the same size. Skipped where it is absent."""

from pathlib import Path

import jax
import numpy as np
import pytest

import rnnjax as rj

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # its own, and those of what it imports
def test_a_gru_has_the_exact_gradients_of_braintrace(monkeypatch):
    """Its SnAp-n with n = H leaves nothing out, and keeps d carry / d params as ours does: H numbers a param of the cell."""
    pytest.importorskip("braintrace", exc_type=ImportError)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import online

    cell, args = online.problem(6, 10)
    with jax.numpy_dtype_promotion("standard"):
        theirs, kept = online.braintrace(cell, args)
        value, grads = theirs(*args)
    want, ours = jax.jit(rj.online.value_and_grad(cell, online.loss))(*args)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), online.joined(grads), ours)
    state = rj.online.Learner(cell, online.loss).init(args[0], args[1][0])
    assert kept == online.bytes_of((state.carry, state.influence))
