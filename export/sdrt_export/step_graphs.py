"""The graphs that belong to no model: one denoising step, latents to the VAE, image to pixels.

They ship inside the runtime as files of a few kB, so that it needs no `onnx` to make them:

    python -m sdrt_export.step_graphs        writes sdrt/graphs/*.onnx; a test holds that they are up to date

State, guidance and the sampler's matrix are float32 whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdrt import graphs as shipped
from sdrt.samplers import COLUMNS, SLOTS

if TYPE_CHECKING:
    import onnx

OPSET = 20
IR_VERSION = 10
PRECISIONS = ("fp32", "fp16")
_TOO_LARGE = 3.4e38  # just below float32's largest: no sum of squares of latents, but not infinite


def step_graph(precision: str) -> onnx.ModelProto:
    """One denoising step for B samples whose prompts take R rows of the network's batch.

    In, besides what the network gave (out_sample [R', C, h, w] in its own precision):
        state       [B, SLOTS, C, h, w]   slot 0 is what the network has just seen, before scaling
        noise       [B, C, h, w]          unit Gaussian noise
        matrix      [B, SLOTS, COLUMNS]   M[k] = [A | b | c] of each sample's sampler
        guidance    [B, G]                weights of each sample's rows
        rows        [B, G] int64          which rows of the network's last batch they weigh
        owners      [R] int64             which sample each row of the next batch belongs to
        c_in        [B, 1, 1, 1]          scale of the next network input
        finite      [B]                   how many steps have left a finite state
        free        [B, SLOTS, 1, h, w]   1 where the sampler has its way; 0 in slot 0 where latents are held
        held        [B, 2, C, h, w]       what they are held to, already 0 where free is 1: latents and noise
        hold        [B, SLOTS, 2]         how much of both, in slot 0: alpha and sigma of the next noise level
    Out:
        next_state  [B, SLOTS, C, h, w]
        sample      [R, C, h, w]          the next network input, in the network's precision
        next_finite [B]

    A row is picked by index, not by a matrix of zeros and ones: 0 * NaN is NaN, and a sample that went wrong
    must not take the others of its batch with it.
    For the same reason a state in which there is NaN or Inf never becomes finite again: each slot is a sum
    over all slots and the prediction, whatever the matrix. So `finite` at the end tells the step that spoilt
    it, and nobody has to look in between.

    Where a mask holds a picture, every step puts it back with the noise of the next level on it, as in
    RePaint (Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865, equation 8).
    """
    make = _Maker(precision)
    make.constant("sum_axis", [1])
    make.constant("as_slot", [0, 1, -1])
    make.constant("as_slots", [0, SLOTS, -1])
    make.node("Cast", ["out_sample"], "out", to=make.float32)
    make.node("Gather", ["out", "rows"], "picked", axis=0)
    make.constant("weight_axes", [2, 3, 4])
    make.node("Unsqueeze", ["guidance", "weight_axes"], "weights")
    make.node("Mul", ["picked", "weights"], "weighed")
    make.node("ReduceSum", ["weighed", "sum_axis"], "guided", keepdims=0)
    make.node("Reshape", ["state", "as_slots"], "slots")
    make.node("Reshape", ["guided", "as_slot"], "m")
    make.node("Reshape", ["noise", "as_slot"], "z")
    make.node("Concat", ["slots", "m", "z"], "columns", axis=1)
    make.node("MatMul", ["matrix", "columns"], "next_slots")
    make.node("Shape", ["state"], "state_shape")
    make.node("Reshape", ["next_slots", "state_shape"], "stepped")
    make.node("Mul", ["stepped", "free"], "let_go")
    make.constant("as_held", [0, 2, -1])
    make.node("Reshape", ["held", "as_held"], "held_columns")
    make.node("MatMul", ["hold", "held_columns"], "held_slots")
    make.node("Reshape", ["held_slots", "state_shape"], "kept")
    make.node("Add", ["let_go", "kept"], "next_state")
    make.constant("slot", 0)
    make.node("Gather", ["next_state", "slot"], "x", axis=1)
    make.node("Mul", ["x", "c_in"], "scaled")
    make.node("Gather", ["scaled", "owners"], "tiled", axis=0)
    make.node("Cast", ["tiled"], "sample", to=make.network)
    make.constant("latent_axes", [1, 2, 3])
    make.scalar("too_large", _TOO_LARGE)
    make.node("ReduceSumSquare", ["x", "latent_axes"], "energy", keepdims=0)
    make.node("Less", ["energy", "too_large"], "is_finite")  # NaN is less than nothing
    make.node("Cast", ["is_finite"], "one_more", to=make.float32)
    make.node("Add", ["finite", "one_more"], "next_finite")
    latents: list[int | str] = ["samples", SLOTS, "channels", "height", "width"]
    return make.model(
        f"step_{precision}",
        inputs={
            # not as many as the next batch has where guidance begins or ends
            "out_sample": (make.network, ["given_rows", "channels", "height", "width"]),
            "state": (make.float32, latents),
            "noise": (make.float32, ["samples", "channels", "height", "width"]),
            "matrix": (make.float32, ["samples", SLOTS, COLUMNS]),
            "guidance": (make.float32, ["samples", "rows_per_sample"]),
            "rows": (make.int64, ["samples", "rows_per_sample"]),
            "owners": (make.int64, ["rows"]),
            "c_in": (make.float32, ["samples", 1, 1, 1]),
            "finite": (make.float32, ["samples"]),
            "free": (make.float32, ["samples", SLOTS, 1, "height", "width"]),
            "held": (make.float32, ["samples", 2, "channels", "height", "width"]),
            "hold": (make.float32, ["samples", SLOTS, 2]),
        },
        outputs={
            "next_state": (make.float32, latents),
            "sample": (make.network, ["rows", "channels", "height", "width"]),
            "next_finite": (make.float32, ["samples"]),
        },
    )


def latents_graph(precision: str) -> onnx.ModelProto:
    """The finished state to the VAE's input.

    In: state [B, SLOTS, C, h, w] float32, scale [] float32 (1 / the VAE's scaling factor).
    Out: latent_sample [B, C, h, w] in the VAE's precision; finite [B] bool, false where NaN or Inf came out.
    """
    make = _Maker(precision)
    make.constant("slot", 0)
    make.node("Gather", ["state", "slot"], "x", axis=1)
    make.node("Mul", ["x", "scale"], "scaled")
    make.node("Cast", ["scaled"], "latent_sample", to=make.network)
    make.finite("latent_sample", "finite")
    latents = ["samples", "channels", "height", "width"]
    return make.model(
        f"latents_{precision}",
        inputs={
            "state": (make.float32, ["samples", SLOTS, "channels", "height", "width"]),
            "scale": (make.float32, []),
        },
        outputs={"latent_sample": (make.network, latents), "finite": (make.bool, ["samples"])},
    )


def pixels_graph(precision: str) -> onnx.ModelProto:
    """The VAE's image to 8-bit pixels.

    In: image [B, 3, H, W] in the VAE's precision, -1 black to 1 white.
    Out: pixels [B, H, W, 3] uint8, clamped and rounded half to even; finite [B] bool as above.
    """
    make = _Maker(precision)
    make.scalar("half", 0.5)
    make.scalar("zero", 0.0)
    make.scalar("one", 1.0)
    make.scalar("white", 255.0)
    make.node("Cast", ["image"], "full", to=make.float32)
    make.node("Mul", ["full", "half"], "halved")
    make.node("Add", ["halved", "half"], "unit")
    make.node("Clip", ["unit", "zero", "one"], "clamped")
    make.node("Mul", ["clamped", "white"], "levels")
    make.node("Round", ["levels"], "rounded")
    make.node("Transpose", ["rounded"], "rows", perm=[0, 2, 3, 1])
    # last: inside a graph TensorRT has no bytes
    make.node("Cast", ["rows"], "pixels", to=make.uint8)
    make.finite("full", "finite")
    return make.model(
        f"pixels_{precision}",
        inputs={"image": (make.network, ["samples", 3, "height", "width"])},
        outputs={
            "pixels": (make.uint8, ["samples", "height", "width", 3]),
            "finite": (make.bool, ["samples"]),
        },
    )


class _Maker:
    """Collects nodes and constants of a graph."""

    def __init__(self, precision: str) -> None:
        from onnx import TensorProto

        self.float32, self.int64 = TensorProto.FLOAT, TensorProto.INT64
        self.uint8, self.bool = TensorProto.UINT8, TensorProto.BOOL
        self.network = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}[precision]
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: int | list[int]) -> None:
        self._initializer(name, value, "int64")

    def scalar(self, name: str, value: float) -> None:
        self._initializer(name, value, "float32")

    def _initializer(self, name: str, value: float | list[int], dtype: str) -> None:
        import numpy as np
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.array(value, dtype), name))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))

    def finite(self, values: str, output: str) -> None:
        """`output` [B] bool: whether all of each sample's `values` [B, ...] are finite."""
        self.constant("per_sample", [0, -1])
        self.constant("over_values", [1])
        self.node("IsNaN", [values], "is_nan")
        self.node("Cast", [values], "wide", to=self.float32)
        self.node("IsInf", ["wide"], "is_inf")
        self.node("Or", ["is_nan", "is_inf"], "is_bad")
        self.node("Cast", ["is_bad"], "bad", to=self.float32)
        self.node("Reshape", ["bad", "per_sample"], "bad_values")
        self.node("ReduceMax", ["bad_values", "over_values"], "worst", keepdims=0)
        self.node("Cast", ["worst"], "not_finite", to=self.bool)
        self.node("Not", ["not_finite"], output)

    def model(
        self,
        name: str,
        *,
        inputs: Mapping[str, tuple[int, Sequence[int | str]]],
        outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        from onnx import checker, helper

        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
            [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
            self._initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="sdrt")
        checker.check_model(model, full_check=True)
        return model


def all_graphs() -> dict[str, onnx.ModelProto]:
    """Every graph that ships, by file name."""
    makers = {"step": step_graph, "latents": latents_graph, "pixels": pixels_graph}
    return {
        shipped.file_name(kind, precision): make(precision)
        for kind, make in makers.items()
        for precision in PRECISIONS
    }


def main() -> None:
    """Write all of them where the runtime finds them."""
    for name, model in all_graphs().items():
        Path(shipped.FOLDER / name).write_bytes(model.SerializeToString(deterministic=True))
        print(shipped.FOLDER / name)


if __name__ == "__main__":
    main()
