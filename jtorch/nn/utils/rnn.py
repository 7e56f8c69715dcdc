"""Sequences of several lengths: padded into one tensor, or packed without padding."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import Any

import numpy as np

import jtorch
from jtorch._tensor.tensor import Tensor

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
    "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip

_NOT_SORTED = (
    "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
    "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do "
    "not need "
    "ONNX exportability."
)


class PackedSequence(namedtuple("PackedSequence_", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"])):
    """Sequences sorted by length, step by step: data (sum of lengths, ...), batch_sizes (T) on the CPU.

    sorted_indices and unsorted_indices lead from the user's order to the sorted one and back; None if they agree.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ):
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never be created "
                "manually. They "
                "should be instantiated by functions like pack_sequence and pack_padded_sequences in nn.utils.rnn. "
                "https://pytorch.org/docs/stable/nn.html#torch.nn.utils.rnn.pack_sequence"
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def pin_memory(self) -> PackedSequence:
        """The sequence with its data in pinned memory."""
        return type(self)(self.data.pin_memory(), *self[1:])

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence with its data moved or cast; batch_sizes stay on the CPU."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "dtype")}

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(data.device, **kwargs)

        return type(self)(data, self.batch_sizes, move(self.sorted_indices), move(self.unsorted_indices))

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence on the GPU."""
        return self.to(*args, **kwargs) if args or "device" in kwargs else self.to(*args, device="cuda", **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence on the CPU."""
        return self.to(*args, device="cpu", **kwargs)

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self.to(dtype=jtorch.double)

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self.to(dtype=jtorch.float)

    def half(self) -> PackedSequence:
        """The data as float16."""
        return self.to(dtype=jtorch.half)

    def long(self) -> PackedSequence:
        """The data as int64."""
        return self.to(dtype=jtorch.long)

    def int(self) -> PackedSequence:
        """The data as int32."""
        return self.to(dtype=jtorch.int)

    def short(self) -> PackedSequence:
        """The data as int16."""
        return self.to(dtype=jtorch.short)

    def char(self) -> PackedSequence:
        """The data as int8."""
        return self.to(dtype=jtorch.int8)

    def byte(self) -> PackedSequence:
        """The data as uint8."""
        return self.to(dtype=jtorch.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on the GPU."""
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        """Whether the data is in pinned memory."""
        return self.data.is_pinned()


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes this one."""
    if permutation is None:
        return None
    places = jtorch.arange(0, permutation.numel(), device=permutation.device)
    return jtorch.empty_like(permutation).scatter_(0, permutation, places)


def _packed_rows(batch_sizes: list[int]) -> Tensor:
    """Where each packed row lies in the padded tensor flattened to (T * B, ...)."""
    batch = batch_sizes[0]
    rows = [np.arange(n, dtype=np.int64) + t * batch for t, n in enumerate(batch_sizes)]
    return jtorch.from_numpy(np.concatenate(rows))


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | list[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Packs input (T, B, ...), or (B, T, ...) with batch_first, given the sequences' lengths.

    enforce_sorted: RuntimeError unless the lengths descend; otherwise they are sorted here.
    """
    if isinstance(lengths, Tensor):
        sizes = np.asarray(lengths.detach().cpu().tolist(), dtype=np.int64).reshape(-1)
    else:
        sizes = np.asarray([int(n) for n in lengths], dtype=np.int64)
    batch = input.size(0 if batch_first else 1)
    if len(sizes) != batch:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} (batch_size={batch})"
        )
    sorted_indices = None
    if not enforce_sorted:
        order = jtorch.tensor(sizes.tolist(), dtype=jtorch.int64).sort(descending=True)[1]
        sizes = sizes[np.asarray(order.tolist(), dtype=np.int64)]
        sorted_indices = order.to(input.device)
        input = input.index_select(0 if batch_first else 1, sorted_indices)
    if (sizes <= 0).any():
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if (sizes[1:] > sizes[:-1]).any():
        raise RuntimeError(_NOT_SORTED)
    padded = input.transpose(0, 1) if batch_first else input
    steps = int(sizes[0])
    if steps > padded.size(0):
        raise RuntimeError(
            f"Expected sequence length to be no larger than the padded input's {padded.size(0)} steps, but got {steps}"
        )
    batch_sizes = [int((sizes > t).sum()) for t in range(steps)]
    rows = _packed_rows(batch_sizes).to(input.device)
    flat = padded.reshape(padded.size(0) * batch, *padded.shape[2:])
    return PackedSequence(flat.index_select(0, rows), jtorch.tensor(batch_sizes), sorted_indices, None)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded tensor (T, B, ...), or (B, T, ...), in the user's order, and the lengths (B)."""
    sizes = sequence.batch_sizes.tolist()
    steps = len(sizes)
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {steps}"
            )
        steps = total_length
    data, batch = sequence.data, sizes[0]
    rest = tuple(data.shape[1:])
    rows = _packed_rows(sizes).to(data.device)
    padded = data.new_full((steps * batch, *rest), padding_value).index_copy(0, rows, data)
    padded = padded.reshape(steps, batch, *rest)
    lengths = jtorch.tensor([sum(n > b for n in sizes) for b in range(batch)])
    if batch_first:
        padded = padded.transpose(0, 1)
    order = sequence.unsorted_indices
    if order is not None:
        return padded.index_select(0 if batch_first else 1, order), lengths[order.cpu()]
    return padded, lengths


def pad_sequence(
    sequences: Tensor | list[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors (L_i, ...) in one (T, B, ...), or (B, T, ...), padded at one side."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    sequences = list(sequences.unbind(0) if isinstance(sequences, Tensor) else sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    longest = max(s.size(0) for s in sequences)
    rest = tuple(sequences[0].shape[1:])
    rows = []
    for s in sequences:
        gap = longest - s.size(0)
        for dim, (size, expected) in enumerate(zip(s.shape[1:], rest, strict=False), 1):
            if size != expected:
                raise RuntimeError(
                    f"The size of tensor a ({expected}) must match the size of tensor b ({size}) at non-singleton "
                    f"dimension {dim}"
                )
        if gap:
            fill = s.new_full((gap, *rest), padding_value)
            s = jtorch.cat([fill, s] if padding_side == "left" else [s, fill])
        rows.append(s)
    return jtorch.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded tensor, each cut to its length."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [s[:n] for s, n in zip(padded_sequences.unbind(0), lengths.tolist(), strict=True)]


def pack_sequence(sequences: list[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs tensors (L_i, ...)."""
    lengths = jtorch.tensor([s.size(0) for s in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed one."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
