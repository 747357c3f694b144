"""Vector instructions for the tree's kernels: 8 boxes or 4 triangles at once, written as LLVM code that numba inlines.

LLVM does not vectorise such loops by itself: they are too short for the checks that their arrays are apart. Vectors of
a fixed width become AVX, SSE or NEON instructions, as the processor has them. Every operation is IEEE arithmetic in
double precision, in the order written and without fused multiplication: `kernels` relies on equal edges of two faces
giving equal numbers.

Importing this module imports numba, which takes a while: only kernels do, and those are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BOX_LANES, FACE_LANES = 8, 4
INT, REAL = ir.IntType(64), ir.DoubleType()


def compiled(function: Callable[..., Any]) -> Any:
    """Return `function` as a kernel that lets other threads run, compiled at its first call and kept on disk."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return njit(nogil=True)(function)


class Lanes:
    """A vector of numbers or of truths while code is being written: its operators append instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder, self.value = builder, value

    def _of(self, other: Any) -> Any:
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.value.type.count)

    def __add__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fsub(self.value, self._of(other)))

    def __mul__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fmul(self.value, self._of(other)))

    def __truediv__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fdiv(self.value, self._of(other)))

    def __lt__(self, other: Any) -> Lanes:  # like the other comparisons false for NaN
        return Lanes(self._builder, self._builder.fcmp_ordered("<", self.value, self._of(other)))

    def __gt__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fcmp_ordered(">", self.value, self._of(other)))

    def __ge__(self, other: Any) -> Lanes:
        return Lanes(self._builder, self._builder.fcmp_ordered(">=", self.value, self._of(other)))

    def __and__(self, other: Lanes) -> Lanes:
        return Lanes(self._builder, self._builder.and_(self.value, other.value))

    def __or__(self, other: Lanes) -> Lanes:
        return Lanes(self._builder, self._builder.or_(self.value, other.value))

    def __invert__(self) -> Lanes:
        return Lanes(self._builder, self._builder.not_(self.value))

    def choose(self, yes: Lanes, no: Lanes) -> Lanes:
        return Lanes(self._builder, self._builder.select(self.value, yes.value, no.value))

    def at_least(self, other: Any) -> Lanes:
        """Return the larger of the two; `other` where this is NaN."""
        low = Lanes(self._builder, self._of(other))
        return (self > low).choose(self, low)

    def at_most(self, other: Any) -> Lanes:
        high = Lanes(self._builder, self._of(other))
        return (self < high).choose(self, high)

    def root(self) -> Lanes:
        """Return the square root."""
        kind = self.value.type
        name = f"llvm.sqrt.v{kind.count}f{64 if kind.element == REAL else 32}"
        root = self._builder.module.declare_intrinsic(name, fnty=ir.FunctionType(kind, [kind]))
        return Lanes(self._builder, self._builder.call(root, [self.value]))

    def bits(self) -> Any:
        """Return truths as the low bits of an integer, the first lane lowest."""
        return self._builder.zext(self._builder.bitcast(self.value, ir.IntType(self.value.type.count)), INT)


Vector = tuple[Lanes, Lanes, Lanes]


def minus(a: Any, b: Any) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def dot(a: Any, b: Any) -> Lanes:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Any, b: Any) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


class Code:
    """Where instructions are appended, with the arguments of the intrinsic being written."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self.builder = context, builder
        self._types, self._values = signature.args, arguments

    def start(self, argument: int) -> Any:
        """Return the address of an array's first number."""
        return self._context.make_array(self._types[argument])(self._context, self.builder, self._values[argument]).data

    def row(self, row: Any, lanes: int, *, rows: int, of: int = 0, node: int = 1, kind: Any = REAL) -> Lanes:
        """Return row `row` (a number or a value) of the `rows` that node `arguments[node]` has in an array."""
        builder = self.builder
        offset = row if isinstance(row, ir.Value) else ir.Constant(INT, row)
        index = builder.add(builder.mul(self._values[node], ir.Constant(INT, rows)), offset)
        place = builder.gep(self.start(of), [builder.mul(index, ir.Constant(INT, lanes))])
        pointer = builder.bitcast(place, ir.VectorType(kind, lanes).as_pointer())
        return Lanes(builder, builder.load(pointer, align=4))

    def spread(self, argument: int, lanes: int, *, kind: Any = REAL) -> Lanes:
        """Return a number in all lanes."""
        empty = ir.Constant(ir.VectorType(kind, lanes), ir.Undefined)
        value = self._values[argument] if kind is REAL else self.builder.fptrunc(self._values[argument], kind)
        first = self.builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
        return Lanes(self.builder, self.builder.shuffle_vector(first, empty, places))

    def store(self, argument: int, lanes: Lanes, *, row: int = 0) -> None:
        """Write lanes to a row of an array."""
        place = self.builder.gep(self.start(argument), [ir.Constant(INT, row * lanes.value.type.count)])
        pointer = self.builder.bitcast(place, lanes.value.type.as_pointer())
        self.builder.store(lanes.value, pointer, align=8)


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """Return the place of the lowest bit of `mask`, which is not 0."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), write


@intrinsic
def boxes_within(typing: Any, boxes: Any, node: Any, x: Any, y: Any, z: Any, limit: Any, gaps: Any) -> Any:
    """Return which of a node's 8 boxes have a squared distance below `limit`, as bits; write all 8 to `gaps`.

    `boxes` is (nodes, 6, 8): lower and upper corners.
    """
    real = types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        sides = []
        for axis in range(3):
            lower, upper = (code.row(axis + 3 * end, BOX_LANES, rows=6) for end in range(2))
            place = code.spread(2 + axis, BOX_LANES)
            sides.append((lower - place).at_least(place - upper).at_least(0))
        squared = dot(sides, sides)
        code.store(6, squared)
        return (squared < code.spread(5, BOX_LANES)).bits()

    return types.int64(boxes, types.int64, real, real, real, real, gaps), write


def _to_triangles(point: Vector, corners: list[Vector]) -> tuple[Lanes, Vector]:
    """Return squared distances of a point from triangles, and the way from the closest points to it.

    The distance is that to the nearest of three sides or, above the inside, to the plane.

    The height above the plane is measured from the foot on the nearest side, so that it is as accurate on needles,
    whose normals are not; and it is never less than a needle's width allows.
    """
    sides = [minus(corners[(k + 1) % 3], corners[k]) for k in range(3)]
    lengths = [dot(side, side) for side in sides]
    normal = cross(sides[0], sides[1])
    inside, offsets = [], []
    for side, corner, length in zip(sides, corners, lengths, strict=True):
        away = minus(point, corner)
        inside.append(dot(cross(side, away), normal) >= 0)
        along = (dot(away, side) / length).at_least(0).at_most(1)  # 0 for a side without length
        offsets.append(minus(away, [along * part for part in side]))
    offset, squared = offsets[0], dot(offsets[0], offsets[0])
    for other in offsets[1:]:
        gap = dot(other, other)
        nearer = gap < squared
        x, y, z = (nearer.choose(new, old) for new, old in zip(other, offset, strict=True))
        offset, squared = (x, y, z), nearer.choose(gap, squared)
    doubled = dot(normal, normal)
    height = dot(offset, normal)
    plane, least = height * height / doubled, squared - doubled / lengths[0].at_least(lengths[1]).at_least(lengths[2])
    above = inside[0] & inside[1] & inside[2] & (plane.at_least(least) < squared)
    upright, share = above & (plane >= least), height / doubled
    x, y, z = (upright.choose(share * part, old) for part, old in zip(normal, offset, strict=True))
    return above.choose(plane.at_least(least), squared), (x, y, z)


@intrinsic
def faces_within(typing: Any, leaves: Any, leaf: Any, x: Any, y: Any, z: Any, limit: Any, gaps: Any) -> Any:
    """Return which of a leaf's 4 triangles have a squared distance below `limit`, as bits; write all 4 to `gaps`.

    `leaves` is (leaves, 9, 4): the corners' coordinates; NaN where there is no triangle.
    """
    real = types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        point = (code.spread(2, FACE_LANES), code.spread(3, FACE_LANES), code.spread(4, FACE_LANES))
        rows = [code.row(row, FACE_LANES, rows=9) for row in range(9)]
        squared, _ = _to_triangles(point, [(rows[k], rows[k + 1], rows[k + 2]) for k in (0, 3, 6)])
        code.store(6, squared)
        return (squared < code.spread(5, FACE_LANES)).bits()

    return types.int64(leaves, types.int64, real, real, real, real, gaps), write


@intrinsic
def ways_from_faces(typing: Any, leaves: Any, leaf: Any, x: Any, y: Any, z: Any, ways: Any) -> Any:
    """Write the ways from the closest points of a leaf's 4 triangles to a point to `ways` (3, 4), and return 0."""
    real = types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        point = (code.spread(2, FACE_LANES), code.spread(3, FACE_LANES), code.spread(4, FACE_LANES))
        rows = [code.row(row, FACE_LANES, rows=9) for row in range(9)]
        _, way = _to_triangles(point, [(rows[k], rows[k + 1], rows[k + 2]) for k in (0, 3, 6)])
        for axis, part in enumerate(way):
            code.store(5, part, row=axis)
        return ir.Constant(INT, 0)

    return types.int64(leaves, types.int64, real, real, real, ways), write


@intrinsic
def boxes_along(
    typing: Any, boxes: Any, node: Any, u: Any, v: Any, far: Any, at_u: Any, at_v: Any, at_w: Any, turn: Any
) -> Any:
    """Return which of a node's 8 boxes a ray along axis w may meet, as bits.

    `far` is the row of the side that the ray leaves by; `turn` is 1 if it runs upwards, -1 downwards.
    """
    whole, real = types.int64, types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        ahead = (code.row(arguments[4], BOX_LANES, rows=6) - code.spread(7, BOX_LANES)) * code.spread(8, BOX_LANES) >= 0
        for axis, place in ((2, code.spread(5, BOX_LANES)), (3, code.spread(6, BOX_LANES))):
            upper = builder.add(arguments[axis], ir.Constant(INT, 3))
            ahead = ahead & (place >= code.row(arguments[axis], BOX_LANES, rows=6))
            ahead = ahead & (code.row(upper, BOX_LANES, rows=6) >= place)
        return ahead.bits()

    return whole(boxes, whole, whole, whole, whole, real, real, real, real), write


@intrinsic
def faces_over(typing: Any, leaves: Any, leaf: Any, u: Any, v: Any, at_u: Any, at_v: Any) -> Any:
    """Return which of a leaf's 4 triangles hold (at_u, at_v) in their projection along w, as bits.

    The low four are triangles that run around it counter-clockwise, the next four those that run clockwise. A side
    counts for both its faces or for neither: it is asked whether it passes the line v = at_v, which is exact, and on
    which side of the point, by an expression that only changes its sign with the direction.
    """
    whole, real = types.int64, types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        corners = []
        for corner in range(3):
            rows = (builder.add(arguments[axis], ir.Constant(INT, 3 * corner)) for axis in (2, 3))
            places = zip(rows, (4, 5), strict=True)
            corners.append(
                [code.row(row, FACE_LANES, rows=9) - code.spread(place, FACE_LANES) for row, place in places]
            )
        above = [v > 0 for _, v in corners]
        rising, falling = above[0] & ~above[0], above[0] & ~above[0]
        for start in range(3):
            stop = (start + 1) % 3
            turn = corners[start][0] * corners[stop][1] - corners[start][1] * corners[stop][0]
            rising = rising | (above[stop] & ~above[start] & (turn > 0))
            falling = falling | (above[start] & ~above[stop] & (turn < 0))
        left, right = (rising & ~falling).bits(), (falling & ~rising).bits()
        return builder.or_(left, builder.shl(right, ir.Constant(INT, FACE_LANES)))

    return whole(leaves, whole, whole, whole, real, real), write
