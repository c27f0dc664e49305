"""Operators that TensorRT's ONNX parser takes, and in which types.

From docs/operators.md of onnx-tensorrt for TensorRT 10.15, https://github.com/onnx/onnx-tensorrt. By their
release notes later versions, 11.0 to 11.2 among them, only take more. Left out are operators that diffusion
models have no use for and whose restrictions `tensorrt_lint` does not look at: loops and branches, recurrent
layers, quantization, detection, signal processing.
"""

from __future__ import annotations

from collections.abc import Mapping

OPSETS = range(9, 25)

_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ANY = _NUMBERS | {"BOOL"}
_BOOL = frozenset({"BOOL"})
_HALF_AT_LEAST = frozenset({"FLOAT", "FLOAT16"})

_BY_TYPES = {
    _FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Clip Conv
        ConvTranspose Cos Cosh CumSum Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool
        GlobalMaxPool GroupNormalization HardSigmoid HardSwish InstanceNormalization IsInf LRN
        LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool
        MeanVarianceNormalization PRelu RMSNormalization RandomNormal RandomNormalLike RandomUniform
        RandomUniformLike Reciprocal Resize Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan
        Tanh ThresholdedRelu Upsample
    """,
    _NUMBERS: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max
        Mean Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
        ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND Shrink Sign SpaceToDepth
        Sub Sum TopK
    """,
    _ANY: """
        Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity OneHot Reshape
        Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    _ANY | {"UINT8"}: "Cast CastLike",
    _BOOL: "And Not Or Xor",
    _HALF_AT_LEAST: "Mish",
}

TYPES: Mapping[str, frozenset[str]] = {
    operator: types for types, operators in _BY_TYPES.items() for operator in operators.split()
}
"""Operator -> names of `onnx.TensorProto.DataType` that its data may have. DOUBLE would become FLOAT."""
