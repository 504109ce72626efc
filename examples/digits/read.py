"""Has pictures of digits read: `python read.py PICTURES CHUNK`; says how many were read right."""

from __future__ import annotations

import sys
import time

import numpy as np
from digits import classify, combine
from pictures import draw

from sandboxq import FlowProducer

if __name__ == "__main__":
    count, chunk = (int(each) for each in sys.argv[1:])
    drawn = np.random.default_rng().integers(0, 10, count)
    pictures = draw(drawn, seed=2)
    began = time.monotonic()
    with FlowProducer.sync() as flows:
        flow = flows.add(
            name=combine.name,
            queue=combine.queue,
            children=[
                classify.node(first, pictures[first : first + chunk])
                for first in range(0, count, chunk)
            ],
        )
        found = flow.job.result(timeout=120)
    seconds = time.monotonic() - began
    right = (np.array(found) == drawn).mean()
    print(f"{count} pictures in {len(flow.children)} chunks: {right:.1%} right, {seconds:.2f} s")
