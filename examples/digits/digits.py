"""Reads pictures of digits with a model that each child loads once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from sandboxq import current_job, task

MODEL = Path(__file__).with_name("digits.onnx")
session: onnxruntime.InferenceSession


def setup() -> None:
    """Load the model. Here, once in each child, as a session has threads, which no fork copies."""
    global session  # noqa: PLW0603 - of the child
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a child for each core, and a core for each child
    session = onnxruntime.InferenceSession(MODEL, options)
    print("model loaded")


@task(queue="digits", timeout=60, attempts=3)
def classify(first: int, pictures: np.ndarray) -> tuple[int, list[int]]:
    """Return the digits in pictures, and the number of the first one, by which they are joined."""
    (scores,) = session.run(None, {"pixels": pictures.astype(np.float32) / 255})
    return first, scores.argmax(axis=1).tolist()


@task(queue="digits")
def combine() -> list[int]:
    """Return the digits of all chunks, in order."""
    job = current_job()
    assert job is not None  # noqa: S101 - its children are those of a job
    return [digit for _, digits in sorted(job.children_values().values()) for digit in digits]
