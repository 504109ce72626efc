"""Each child has random numbers of its own, wherever the processor keeps its generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_DRAWS = """
import random, secrets, time, uuid
import numpy as np

rng = np.random.default_rng()
seeded = np.random.default_rng(42)
kept = {"all": [np.random.Generator(np.random.Philox(7)), np.random.MT19937(3)]}
state = np.random.RandomState(1)
dice = random.Random(5)

class Sampler:
    def __init__(self):
        self.random = random.Random()
        self.rng = np.random.Generator(np.random.SFC64())

sampler = Sampler()

def draw(generator=np.random.default_rng(1)):
    return int(generator.integers(2**63))

def process(job):
    time.sleep(0.3)
    return {
        "default_rng": int(rng.integers(2**63)),
        "seeded": int(seeded.integers(2**63)),
        "in a list": int(kept["all"][0].integers(2**63)),
        "bit generator": int(kept["all"][1].random_raw()),
        "RandomState": int(state.randint(2**31)),
        "Random": dice.getrandbits(64),
        "in an object": sampler.random.getrandbits(64),
        "in an object, numpy": int(sampler.rng.integers(2**63)),
        "default of a function": draw(),
        "numpy's own": int(np.random.randint(2**31)),
        "random's own": random.getrandbits(64),
        "secrets": secrets.randbits(64),
        "uuid": uuid.uuid4().hex,
    }
"""


# A fork copies one thread only: after this import each child imports for itself.
_STARTS_A_THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.mark.parametrize("before", ["", _STARTS_A_THREAD], ids=["one import", "an import each"])
def test_children_do_not_draw_the_same(tmp_path: Path, before: str) -> None:
    """Also those that replace others."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, before + _DRAWS), size=3) as caller:
            calls = [caller.submit({}) for _ in range(6)]
            for call in calls:
                await caller.outcome(call)
            import json

            drawn = [json.loads(caller.outcomes[call.key].value) for call in calls]  # type: ignore[union-attr]
            for name in drawn[0]:
                assert len({each[name] for each in drawn}) == len(drawn), name

    run_async(main())


def test_objects_that_load_when_they_are_asked_are_not_asked(tmp_path: Path) -> None:
    """Settings, clients and requests of frameworks are such, and fail outside of their place."""
    path = processor_file(
        tmp_path,
        """
import random

class Lazy:
    def __init__(self): self.loaded = []
    @property
    def __class__(self): raise RuntimeError("the settings are not configured")

settings = Lazy()

def process(job): return random.getrandbits(64) > 0
""",
    )

    async def main() -> None:
        async with open_pool(path) as caller:
            assert await caller.value() is True

    run_async(main())
