"""The storage objects users see."""

from __future__ import annotations

from jtorch._runtime import dtypes
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.storage import Storage, detached


class UntypedStorage:
    """A tensor's memory: equal (and of equal `data_ptr`) for all tensors that share it."""

    def __init__(self, storage: Storage):
        self._held = storage

    @property
    def _cdata(self) -> int:
        return self._held.number

    @property
    def device(self):
        """Where the memory is."""
        return self._held.aval.device

    def data_ptr(self) -> int:
        """A number that names this memory, 0 where there is none. No address: XLA keeps those."""
        if not self.nbytes():
            return 0
        return self._held.number * (1 << 40)

    def nbytes(self) -> int:
        """Bytes of the memory."""
        return self._held.aval.numel * self._held.aval.dtype.itemsize

    size = __len__ = nbytes

    def as_tensor(self, dtype: dtypes.dtype) -> Tensor:
        """A flat tensor over this memory."""
        t = new(Tensor)
        t._value, t._storage = detached(self._held.value), self._held
        self._held.add(t)
        order = sorted(range(t.ndim), key=lambda d: -t.stride()[d])
        flat = t.permute(order).view(-1)
        return flat if flat.dtype is dtype else flat.view(dtype)

    def tolist(self) -> list[int]:
        """The bytes."""
        return self.as_tensor(dtypes.uint8).tolist()

    def __getitem__(self, index):
        return self.as_tensor(dtypes.uint8)[index].item()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._held is self._held

    def __hash__(self) -> int:
        return hash(self._held.number)

    def __repr__(self) -> str:
        return f"<torch.UntypedStorage of {self.nbytes()} bytes on {self.device}>"


class TypedStorage:
    """A tensor's memory, counted and read in elements of its dtype."""

    def __init__(self, untyped: UntypedStorage, dtype: dtypes.dtype):
        self._untyped_storage, self.dtype = untyped, dtype

    def untyped(self) -> UntypedStorage:
        """The memory in bytes."""
        return self._untyped_storage

    @property
    def device(self):
        """Where the memory is."""
        return self._untyped_storage.device

    @property
    def _cdata(self) -> int:
        return self._untyped_storage._cdata

    def data_ptr(self) -> int:
        """A number that names this memory."""
        return self._untyped_storage.data_ptr()

    def nbytes(self) -> int:
        """Bytes of the memory."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """Bytes an element."""
        return self.dtype.itemsize

    def size(self) -> int:
        """The number of elements."""
        return self.nbytes() // self.dtype.itemsize

    __len__ = size

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._untyped_storage.as_tensor(self.dtype).tolist()

    def __getitem__(self, index):
        return self._untyped_storage.as_tensor(self.dtype)[index].item()

    def __setitem__(self, index, value) -> None:
        self._untyped_storage.as_tensor(self.dtype)[index] = value

    def __iter__(self):
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypedStorage) and other._untyped_storage == self._untyped_storage

    def __hash__(self) -> int:
        return hash(self._untyped_storage)

    def __repr__(self) -> str:
        rows = "".join(f" {x}\n" for x in self.tolist())
        return f"{rows}[torch.storage.TypedStorage(dtype={self.dtype!r}, device={self.device}) of size {self.size()}]"
