"""The operators that programs from a file may use, and the numbers they may get.

They are those of image classifiers. Others of ATen read files, draw random numbers, or trust their
arguments, and would write beyond a tensor's memory.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.errors import InputError

# By name, with its overloads in parentheses; "default" is left out.
_OPERATORS = """
    conv1d conv1d(padding) conv2d conv2d(padding) convolution conv_transpose2d(input)
    linear matmul mm bmm addmm baddbmm einsum mv dot scaled_dot_product_attention

    batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit(no_stats)
    layer_norm native_layer_norm
    group_norm native_group_norm rms_norm instance_norm linalg_vector_norm
    norm(ScalarOpt_dim Scalar)

    relu relu_ relu6 relu6_ leaky_relu leaky_relu_ elu elu_ celu selu selu_ gelu silu silu_ mish
    mish_ hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ sigmoid sigmoid_ tanh
    tanh_ softplus log_sigmoid hardshrink softshrink threshold glu
    prelu _prelu_kernel softmax(int) _softmax _safe_softmax log_softmax(int) _log_softmax
    dropout dropout_ feature_dropout alpha_dropout

    max_pool1d max_pool2d max_pool2d_with_indices avg_pool1d avg_pool2d adaptive_avg_pool1d
    adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d
    pad constant_pad_nd reflection_pad2d replication_pad2d
    upsample_nearest2d upsample_nearest2d(vec) upsample_bilinear2d upsample_bilinear2d(vec)
    upsample_bicubic2d upsample_bicubic2d(vec) _upsample_nearest_exact2d
    _upsample_nearest_exact2d(vec) pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle im2col col2im

    add(Tensor Scalar) add_(Tensor Scalar) sub(Tensor Scalar) sub_(Tensor Scalar)
    rsub(Tensor Scalar) mul(Tensor Scalar) mul_(Tensor Scalar)
    div(Tensor Scalar Tensor_mode Scalar_mode) div_(Tensor Scalar) addcmul addcdiv
    lerp(Scalar Tensor) pow(Tensor_Scalar Tensor_Tensor Scalar) pow_(Scalar) square sqrt sqrt_ rsqrt
    reciprocal neg abs sign exp exp_ expm1 log log1p sin cos erf floor ceil round trunc
    fmod(Scalar) remainder(Scalar) clamp clamp(Tensor) clamp_ clamp_min clamp_min_ clamp_max
    clamp_max_ maximum minimum nan_to_num
    eq(Scalar Tensor) ne(Scalar Tensor) lt(Scalar Tensor) le(Scalar Tensor) gt(Scalar Tensor)
    ge(Scalar Tensor) logical_not logical_and logical_or bitwise_not bitwise_and(Tensor)
    bitwise_or(Tensor) isnan isinf where(self ScalarSelf ScalarOther Scalar)
    masked_fill(Scalar Tensor) masked_fill_(Scalar)

    sum sum(dim_IntList) mean mean(dim) amax amin max max(dim) min min(dim) argmax argmin
    std(dim correction) var(dim correction) var_mean(dim correction) logsumexp cumsum all any
    all(dim) any(dim) prod(dim_int)

    view reshape reshape_as view_as _unsafe_view flatten(using_ints) unflatten(int) permute
    transpose(int) t numpy_T mT swapaxes movedim(int intlist) squeeze squeeze(dim dims)
    unsqueeze expand expand_as repeat repeat_interleave(self_int) tile broadcast_to cat concat stack
    hstack vstack chunk split(Tensor) split(sizes) split_with_sizes split_with_sizes_copy
    tensor_split(indices) unbind(int) unfold roll flip rot90
    select(int) slice(Tensor) narrow index(Tensor) _unsafe_index(Tensor) index_select gather
    take_along_dim embedding select_scatter slice_scatter as_strided tril triu
    clone contiguous copy copy_ detach detach_ alias lift_fresh_copy fill_(Scalar) zero_

    to(dtype device dtype_layout other) type_as _to_copy
    full full_like ones ones_like zeros zeros_like new_full new_ones new_zeros arange
    arange(start start_step) linspace scalar_tensor eye tril_indices triu_indices
    meshgrid meshgrid(indexing)

    sym_size(int) sym_numel _assert_tensor_metadata
"""
_ARITHMETIC = "add|sub|mul|floordiv|mod|truediv|neg|eq|ne|lt|le|gt|ge"
# Arguments that the loops of convolutions, pooling and padding trust, and their largest value.
_WINDOWS = {"kernel_size", "stride", "padding", "dilation", "output_padding", "pad"}
_WINDOW = 2**14
# Arguments that count nothing, such as the end of a slice.
_FREE = {"value", "fill_value", "other", "self", "min", "max", "exponent", "start", "end", "alpha"}
_LARGEST, _LONGEST = 2**40, 2**12
# Operators whose results are as many as the size that they cut, and the largest such size.
_CUTS = {"unbind", "chunk", "split", "split_with_sizes", "split_with_sizes_copy", "tensor_split"}
_CUT = 2**15


@functools.cache
def known_operators() -> frozenset[str]:
    """The targets of steps that may be operators of ATen, such as "aten.add.Tensor"."""
    found = re.findall(r"(\w+)(?:\(([\w ]+)\))?", _OPERATORS)
    return frozenset(
        f"aten.{name}.{overload}"
        for name, overloads in found
        for overload in (overloads or "default").split()
    )


@functools.cache
def find_operator(target: str) -> Callable[..., Any]:
    """The function that a step's target names: an operator of ATen, or arithmetic on sizes.

    Raises:
        InputError: for anything but the operators of image classifiers.
    """
    if match := re.fullmatch(rf"_operator\.({_ARITHMETIC})", target):
        found: Callable[..., Any] = getattr(operator, match[1])
        return found
    if re.fullmatch(r"torch\.sym_(max|min|not|int|float)", target):
        return getattr(torch, target.removeprefix("torch."))  # type: ignore[no-any-return]
    if target in known_operators():
        _, name, overload = target.split(".")
        return getattr(getattr(torch.ops.aten, name), overload)  # type: ignore[no-any-return]
    raise InputError(
        f"uses the operator {target!r}, which is not run from a file; export a network of "
        "convolutions, attention and other usual layers"
    )


def check_arithmetic(inputs: Mapping[str, Any]) -> None:
    """Refuse arithmetic on anything but sizes.

    Raises:
        InputError: for other values, such as lists, which can be multiplied as well.
    """
    for value in inputs.values():
        if not isinstance(value, int | float) or abs(value) > _LARGEST**2:
            raise InputError(f"calculates with {str(value)[:40]}, which is not a size")


def check_numbers(target: str, inputs: Mapping[str, Any]) -> None:
    """Refuse numbers with which the operator `target` would leave a tensor's memory, or hang.

    Raises:
        InputError: naming the operator and the argument.
    """
    for name, value in inputs.items():
        if isinstance(value, str | list) and len(value) > _LONGEST:
            raise InputError(f"has {target} with {name} of length {len(value)}")
        for number in _numbers(value):
            if not _bounded(name, number):
                raise InputError(f"has {target} with {name} {number}, which is out of range")
    if target.split(".")[1] in _CUTS:
        cut = inputs["self"].shape[inputs.get("dim", 0)]
        if cut > _CUT:
            raise InputError(f"has {target} of a size of {cut}, which is out of range")
    if inputs.get("rounding_mode") is not None and not inputs["self"].is_floating_point():
        # The smallest integer divided by -1 ends the process.
        raise InputError(f"has {target} of integers, which is not supported")
    if target.startswith("aten._native_batch_norm_legit"):
        channels = inputs["input"].shape[1]
        for name in ("weight", "bias", "running_mean", "running_var"):
            if isinstance(inputs.get(name), Tensor) and inputs[name].shape != (channels,):
                raise InputError(f"has {target} with {name} of another size than its input")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _bounded(name: str, number: float) -> bool:
    if name.startswith("scale") and name != "scale":  # of an image that is resized
        return 2**-10 <= number <= 2**10
    if isinstance(number, float) or name in _FREE:
        return True
    return abs(number) <= (_WINDOW if name in _WINDOWS else _LARGEST)
