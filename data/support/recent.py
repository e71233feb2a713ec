"""Values made once and kept in memory, the most recently used first, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """size: the bytes of a value, about. The value asked for last is kept, however large it is."""

    def __init__(self, size: Callable[[Value], int], max_bytes: int):
        self.size, self.max_bytes = size, max_bytes
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is not at hand."""
        if key not in self._kept:
            value = make()
            size = self.size(value)
            self._kept[key] = value, size
            self.bytes += size
            while self.bytes > self.max_bytes and len(self._kept) > 1:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
        self._kept.move_to_end(key)
        return self._kept[key][0]
