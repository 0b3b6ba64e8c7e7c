"""The way through time on cases worked out by hand: bytes per step against the sizes at which something changes."""

import jax
import pytest

from rnnjax.engine.schedule import BLOCK, CLIFF, Schedule, Sizes, choose, count_blocks, faults

MIB = 2**20


def test_what_fits_goes_whole():
    assert choose(100, Sizes(hoisted=1000, taps=1000, stored=1000)) == Schedule()


def test_what_faults_is_cut_where_the_cut_ends_the_faults():
    """1,000 steps of 20, 20 and 4 KiB are 43 MiB in one allocation; in blocks 4 MiB and a block are left."""
    way = choose(1000, Sizes(hoisted=20 * 1024, taps=20 * 1024, stored=4 * 1024))
    assert way.blocks > 1 and 1000 % way.blocks == 0 and not way.replay


def test_a_time_without_divisors_is_not_cut():
    assert choose(1009, Sizes(hoisted=20 * 1024, taps=20 * 1024, stored=4 * 1024)).blocks == 1


def test_tiny_arrays_are_made_again_where_that_saves_kernels():
    """8 arrays not stored at each of 300 steps: 456 us saved, 40 us and few products spent."""
    sizes = Sizes(hoisted=128, taps=512, stored=512, ahead=2000, loop=2000, saved=8, can_replay=True)
    assert choose(300, sizes) == Schedule(1, True)
    assert choose(300, Sizes(hoisted=128, taps=512, stored=512, ahead=2000, loop=2000, saved=8)) == Schedule()


def test_off_the_cpu_everything_goes_whole(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose(1000, Sizes(hoisted=MIB, taps=MIB, stored=MIB, can_replay=True)) == Schedule()


@pytest.mark.parametrize("length, wide", [(1000, 32768), (784, 65536), (128, 524288), (64, 16), (97, 65536)])
def test_blocks_are_equal_and_as_near_to_the_cache_as_a_divisor_allows(length, wide):
    n = count_blocks(wide, length)
    best = max(8, BLOCK // wide)
    fits = [k for k in range(4, length // 2 + 1) if length % k == 0 and best // 2 <= k <= 2 * best]
    assert length % n == 0
    assert (length // n == min(fits, key=lambda k: abs(k - best))) if fits else n == 1


def test_faults_begin_at_the_cliff():
    assert faults(CLIFF) == 0 < faults(CLIFF + 1)
