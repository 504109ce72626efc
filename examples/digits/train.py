"""Trains the model and writes digits.onnx; the file is there, this says where it comes from.

Needs one more package: `pip install onnx`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pictures import SIDE, draw

STEPS = 600
RATE = 0.3


def trained(pixels: np.ndarray, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases, by softmax regression."""
    weights, biases = np.zeros((SIDE * SIDE, 10)), np.zeros(10)
    wanted = np.eye(10)[digits]
    for _ in range(STEPS):
        scores = np.exp(pixels @ weights + biases)
        wrong = scores / scores.sum(axis=1, keepdims=True) - wanted
        weights -= RATE * pixels.T @ wrong / len(pixels)
        biases -= RATE * wrong.mean(axis=0)
    return weights.astype(np.float32), biases.astype(np.float32)


def write(path: str, weights: np.ndarray, biases: np.ndarray) -> None:
    """Write the model: pixels from 0 to 1 in, a score for each digit out."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["pixels", "weights", "biases"], ["scores"])],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [None, SIDE * SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 10])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(biases, "biases")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    shown = np.random.default_rng(1).integers(0, 10, 10_000)
    write("digits.onnx", *trained(draw(shown, seed=1) / 255, shown))
