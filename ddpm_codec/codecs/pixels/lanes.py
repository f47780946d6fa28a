"""Vectors of sixteen int32 in compiled code, and the product of matrices of int16 made of them.

numba widens int32 to int64 wherever numbers meet, which halves what a vector register holds, and its loops over several
arrays are vectorised only where LLVM can prove that they do not overlap. So the element-wise passes of the masked network
name their vectors: ``load16``, ``copy16``, the operators + - * << >> & and ``least`` and ``most`` become one instruction
each, on whatever vectors the processor has. With ``NUMBA_DISABLE_JIT=1`` the same names are numpy's, and the same code runs
in plain Python.
"""

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ddpm_codec.codecs.pixels.network import LANES

PIXELS = 6
"""Pixels that a product takes at once: their sums, for 32 outputs (AVX-512) or 16, just fit the registers."""

WIDE_REGISTERS = bool(llvm.get_host_cpu_features().get("avx512bw"))

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)
_PAIRS, _WIDE_PAIRS = ir.VectorType(_I16, 2 * LANES), ir.VectorType(_I32, 2 * LANES)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


_LANES = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _operator(operation: Any, name: str) -> None:
    """Give vectors an operator: one instruction of LLVM."""

    @infer_global(operation)
    class _Operation(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(_LANES, _LANES, _LANES) if args == (_LANES, _LANES) else None

    @lower_builtin(operation, _LanesType, _LanesType)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(*args)


for _operation, _name in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.mul, "mul"),
    (operator.lshift, "shl"),
    (operator.rshift, "ashr"),
    (operator.and_, "and_"),
):
    _operator(_operation, _name)


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any, kind: Any) -> Any:
    """Return a pointer of some kind to an element of a one-dimensional array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


def _is_array(kind: Any, dtype: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C" and kind.dtype == dtype


@intrinsic
def _load16(_context: Any, array: Any, place: Any) -> Any:
    if not _is_array(array, types.int32):
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        loaded = builder.load(_address(context, builder, sig.args[0], args[0], args[1], _VECTOR))
        loaded.align = 4
        return loaded

    return _LANES(array, types.intp), generate


@intrinsic
def _store16(_context: Any, array: Any, place: Any, value: Any) -> Any:
    if not (_is_array(array, types.int32) or _is_array(array, types.int16)):
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, kind = args[2], _VECTOR
        if sig.args[0].dtype == types.int16:
            kind = ir.VectorType(_I16, LANES)
            value = builder.trunc(value, kind)
        stored = builder.store(value, _address(context, builder, sig.args[0], args[0], args[1], kind))
        stored.align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, _LANES), generate


@intrinsic
def _copy16(_context: Any, source: Any, start: Any, target: Any, place: Any) -> Any:
    if not (_is_array(source, types.int16) and _is_array(target, types.int16)):
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_I16, LANES)
        loaded = builder.load(_address(context, builder, sig.args[0], args[0], args[1], kind))
        loaded.align = 2
        stored = builder.store(loaded, _address(context, builder, sig.args[2], args[2], args[3], kind))
        stored.align = 2
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


@intrinsic
def _fill16(_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return _LANES(types.int32), generate


def _splat(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(nothing, value, _I32(0)), nothing, _indices(LANES * [0]))


def _indices(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(values)), values)


def _selection(comparison: str) -> Any:
    @intrinsic
    def select(_context: Any, a: Any, b: Any) -> Any:
        if a != _LANES or b != _LANES:
            return None

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(builder.icmp_signed(comparison, *args), *args)

        return _LANES(_LANES, _LANES), generate

    return select


def _product_of(groups: int) -> Any:
    """Return the product for ``groups`` times LANES outputs of PIXELS pixels, as one loop over pairs of inputs.

    The sum of the two products of a pair is written in a form in which LLVM finds the instruction for it (vpmaddwd,
    vpdpwssd); where a processor has none, it remains right.
    """

    @intrinsic
    def product(
        _context: Any,
        weight: Any,
        first: Any,
        pairs: Any,
        q: Any,
        v: Any,
        q_place: Any,
        v_place: Any,
        v_stride: Any,
    ) -> Any:
        if not (_is_array(weight, types.int16) and _is_array(q, types.int16) and _is_array(v, types.int32)):
            return None
        places = (types.intp,) * 3
        return types.void(weight, types.intp, types.intp, q, v, *places), _generate_product(groups)

    return product


def _generate_product(groups: int) -> Callable[..., Any]:
    even, odd = (_indices(list(range(start, 2 * LANES, 2))) for start in (0, 1))
    nothing = ir.Constant(_WIDE_PAIRS, ir.Undefined)

    def multiply_add(builder: Any, total: Any, a: Any, b: Any) -> Any:
        both = builder.mul(a, b)
        halves = (builder.shuffle_vector(both, nothing, which) for which in (even, odd))
        return builder.add(total, builder.add(*halves))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        weight, first, pairs, q, v, q_place, v_place, v_stride = args
        size = pairs.type
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0] * LANES)) for _ in range(PIXELS)]
            for _ in range(groups)
        ]
        for row in sums:
            for total in row:
                builder.store(ir.Constant(_VECTOR, [0] * LANES), total)
        with cgutils.for_range(builder, pairs) as loop:
            weights = []
            for group in range(groups):
                pair = builder.add(loop.index, builder.mul(pairs, size(group)))
                place = builder.add(first, builder.mul(pair, size(2 * LANES)))
                loaded = builder.load(_address(context, builder, sig.args[0], weight, place, _PAIRS))
                loaded.align = 2
                weights.append(builder.sext(loaded, _WIDE_PAIRS))
            for pixel in range(PIXELS):
                pair = builder.add(loop.index, builder.mul(pairs, size(pixel)))
                place = builder.add(q_place, builder.mul(pair, size(2)))
                loaded = builder.load(_address(context, builder, sig.args[3], q, place, _I32))
                loaded.align = 2
                read = builder.sext(builder.bitcast(_splat(builder, loaded), _PAIRS), _WIDE_PAIRS)
                for row, of_group in zip(sums, weights, strict=True):
                    total = multiply_add(builder, builder.load(row[pixel]), of_group, read)
                    builder.store(total, row[pixel])
        for pixel in range(PIXELS):
            for group in range(groups):
                place = builder.add(v_place, builder.mul(v_stride, size(pixel)))
                place = builder.add(place, size(group * LANES))
                stored = builder.store(
                    builder.load(sums[group][pixel]), _address(context, builder, sig.args[4], v, place, _VECTOR)
                )
                stored.align = 4
        return context.get_dummy_value()

    return generate


def _plain_product(groups: int) -> Callable[..., None]:
    def product(weight: Any, first: int, pairs: int, q: Any, v: Any, q_place: int, v_place: int, v_stride: int) -> None:
        taken = weight[first : first + groups * pairs * 2 * LANES].astype(np.int32).reshape(groups, pairs, LANES, 2)
        read = q[q_place : q_place + PIXELS * pairs * 2].astype(np.int32).reshape(PIXELS, pairs, 2)
        sums = np.einsum("gplk,npk->ngl", taken, read).reshape(PIXELS, groups * LANES)
        for pixel in range(PIXELS):
            place = v_place + pixel * v_stride
            v[place : place + groups * LANES] = sums[pixel]

    return product


def _plain_load(array: Any, place: int) -> Any:
    return array[place : place + LANES].copy()


def _plain_store(array: Any, place: int, value: Any) -> None:
    array[place : place + LANES] = value


def _plain_copy(source: Any, start: int, target: Any, place: int) -> None:
    target[place : place + LANES] = source[start : start + LANES]


def _plain_fill(value: int) -> Any:
    return np.full(LANES, value, np.int32)


_COMPILED = not numba.config.DISABLE_JIT
load16: Any = _load16 if _COMPILED else _plain_load
store16: Any = _store16 if _COMPILED else _plain_store
copy16: Any = _copy16 if _COMPILED else _plain_copy
fill16: Any = _fill16 if _COMPILED else _plain_fill
least: Any = _selection("<") if _COMPILED else np.minimum
most: Any = _selection(">") if _COMPILED else np.maximum
product_of_one: Any = _product_of(1) if _COMPILED else _plain_product(1)
product_of_two: Any = _product_of(2) if _COMPILED else _plain_product(2)
