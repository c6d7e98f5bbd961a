"""Pickles, opcode by opcode: what `pickle` would never write, but PyTorch reads."""

import struct

# An opcode each; what is not one is data.
PUT, GET, CALL, END = b"r", b"j", b"R", b"."
FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"


def number(value: int) -> bytes:
    """A whole number."""
    return (
        b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)
    )


def text(value: str) -> bytes:
    """A string."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def put(index: int) -> bytes:
    """Remember the latest object."""
    return PUT + struct.pack("<I", index)


def get(index: int) -> bytes:
    """An object that was remembered."""
    return GET + struct.pack("<I", index)


def storage(numbers: int, view: bytes = b"") -> bytes:
    """The only storage of the file, with so many numbers."""
    return (
        b"(" + text("storage") + FLOATS + text("0") + text("cpu") + number(numbers) + view + b"tQ"
    )


def tensor(kept: bytes, size: int, stride: int) -> bytes:
    """A tensor of one dimension in a storage."""
    shape = b"(" + number(size) + b"t(" + number(stride) + b"t"
    return REBUILD + b"(" + kept + number(0) + shape + b"\x89" + ORDERED + b")RtR"


def weights(value: bytes) -> bytes:
    """A pickle of {"x": value}."""
    return b"\x80\x02}" + text("x") + value + b"s."


def as_key(value: bytes) -> bytes:
    """A pickle of {value: None}, which computes the hash of the value."""
    return b"\x80\x02}" + value + b"Ns."


def doubled(first: bytes, pair: bytes, times: int) -> bytes:
    """A pair of a pair of a pair ..., each of whose halves are the same object."""
    return first + b"".join(put(i) + get(i) + pair for i in range(times))


def long_list(length: int) -> bytes:
    """A list of sevens."""
    return b"](" + number(7) * length + b"e"


def often(function: bytes, argument: bytes, times: int) -> bytes:
    """A list of what a function makes of the same argument, each time again."""
    # The function and the argument stay in the list, because PyTorch does not read a pop.
    made = b"](" + function + put(0) + argument + b"\x85" + put(1)
    return made + (get(0) + get(1) + CALL) * times + b"e"
