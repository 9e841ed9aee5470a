"""Bodies as they are stored: compressed where that pays, and always the exact bytes back."""

from __future__ import annotations

import sys
import threading

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdError, decompress
else:
    from backports.zstd import ZstdCompressor, ZstdError, decompress

_SMALLEST = 256
_LEVEL = 1  # 3 takes twice the time for a tenth fewer bytes


class _Compressors(threading.local):
    """One for each thread: making it takes as long as using it."""

    def __init__(self) -> None:
        self.own = ZstdCompressor(_LEVEL)


_compressors = _Compressors()


def pack(body: bytes) -> tuple[bool, bytes]:
    """Whether it was compressed, and what to store."""
    if len(body) >= _SMALLEST:
        packed = _compressors.own.compress(body, ZstdCompressor.FLUSH_FRAME)
        if len(packed) < len(body):
            return True, packed
    return False, body


def unpack(compressed: bool, stored: bytes | None) -> bytes | None:
    """The exact bytes; None where they were freed, or are damaged."""
    if not compressed or stored is None:
        return stored
    try:
        return decompress(stored)
    except ZstdError:
        return None
