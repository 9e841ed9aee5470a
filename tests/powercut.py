"""What a power cut leaves of SQLite's files: only what was synced.

``PowerCut`` puts a VFS in front of SQLite's own. The files on the disk are written as ever, and
beside them the VFS remembers what a disk that loses all it may lose would still hold:

- a file's content is what it was at its last sync;
- a file is there once it, or its directory, was synced;
- a deleted file comes back, unless its directory was synced since;
- shared memory (``-shm``) is gone, and so is all that SQLite did not open by name.

Syncs are not passed on to the disk: they only mark what lasts. Locks, reads and shared memory
are those of SQLite's own VFS; memory-mapped reading is switched off.

The files must belong to one process and to connections opened inside the ``with`` block. No
connection may be used by two threads at once: one of them would wait for the interpreter's lock
while it holds the connection's, the other the reverse. Attached databases are only kept together
by a journal that names the directory they were written in, not the one they are restored to.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple, final

SQLITE_OK = 0
SQLITE_OPEN_CREATE = 0x00000004
SQLITE_OPEN_MAIN_JOURNAL = 0x00000800
SQLITE_OPEN_SUPER_JOURNAL = 0x00004000
SQLITE_OPEN_WAL = 0x00080000
JOURNALS = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL

# Names are passed on as the very pointers that came in: SQLite reads what lies around them.
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_WRITE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _IoMethods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("xClose", _CLOSE),
        ("xRead", ctypes.c_void_p),
        ("xWrite", _WRITE),
        ("xTruncate", _TRUNCATE),
        ("xSync", _SYNC),
        ("xFileSize", ctypes.c_void_p),
        ("xLock", ctypes.c_void_p),
        ("xUnlock", ctypes.c_void_p),
        ("xCheckReservedLock", ctypes.c_void_p),
        ("xFileControl", ctypes.c_void_p),
        ("xSectorSize", ctypes.c_void_p),
        ("xDeviceCharacteristics", ctypes.c_void_p),
        ("xShmMap", ctypes.c_void_p),
        ("xShmLock", ctypes.c_void_p),
        ("xShmBarrier", ctypes.c_void_p),
        ("xShmUnmap", ctypes.c_void_p),
        ("xFetch", ctypes.c_void_p),
        ("xUnfetch", ctypes.c_void_p),
    ]


class _OpenFile(ctypes.Structure):
    """``sqlite3_file``."""

    _fields_ = [("pMethods", ctypes.POINTER(_IoMethods))]


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs``."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", _OPEN),
        ("xDelete", _DELETE),
        ("xAccess", ctypes.c_void_p),
        ("xFullPathname", ctypes.c_void_p),
        ("xDlOpen", ctypes.c_void_p),
        ("xDlError", ctypes.c_void_p),
        ("xDlSym", ctypes.c_void_p),
        ("xDlClose", ctypes.c_void_p),
        ("xRandomness", ctypes.c_void_p),
        ("xSleep", ctypes.c_void_p),
        ("xCurrentTime", ctypes.c_void_p),
        ("xGetLastError", ctypes.c_void_p),
        ("xCurrentTimeInt64", ctypes.c_void_p),
        ("xSetSystemCall", ctypes.c_void_p),
        ("xGetSystemCall", ctypes.c_void_p),
        ("xNextSystemCall", ctypes.c_void_p),
    ]


def sqlite_library(module: ModuleType) -> ctypes.CDLL:
    """The SQLite that ``module`` (``sqlite3`` or ``pysqlite3``) itself runs on."""
    package = module.__name__.partition(".")[0]
    extension = sys.modules["_sqlite3" if package == "sqlite3" else f"{package}._sqlite3"]
    # Without a file the extension is built into the interpreter.
    library = ctypes.CDLL(getattr(extension, "__file__", None))
    try:
        library.sqlite3_libversion.restype = ctypes.c_char_p
        version = library.sqlite3_libversion().decode()
    except AttributeError as error:
        raise RuntimeError(f"{package} hides the functions of its SQLite.") from error
    if version != module.sqlite_version:
        raise RuntimeError(f"Found SQLite {version}, {package} runs on {module.sqlite_version}.")
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    library.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Vfs), ctypes.c_int]
    library.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_Vfs)]
    return library


class Change(NamedTuple):
    """Bytes written at an offset, or with ``None`` the file's end moved there."""

    offset: int
    written: bytes | None


def _changed(content: bytes, changes: Iterable[Change]) -> bytes:
    image = bytearray(content)
    for offset, written in changes:
        image.extend(bytes(max(0, offset - len(image))))
        if written is None:
            del image[offset:]
        else:
            image[offset : offset + len(written)] = written
    return bytes(image)


@dataclass
class _Inode:
    """A file, whatever name it has or had."""

    synced: bytes = b""
    unsynced: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        if not self.unsynced:
            return
        self.synced = _changed(self.synced, self.unsynced)
        self.unsynced.clear()


@dataclass
class _Handle:
    """A file as one connection has it open."""

    path: Path
    inode: _Inode
    methods: _IoMethods
    syncs_directory: bool


def nothing(path: Path) -> bool:
    """No change that was not synced survives: the worst a disk may do to an acknowledgement."""
    return False


@dataclass(frozen=True)
class Snapshot:
    """What a cut would leave right after one operation, and so until the next one.

    ``number`` counts the operations. A row is owed by every snapshot whose number is at least
    the ``PowerCut.operations`` read after its commit returned.
    """

    number: int
    kind: str
    path: Path | None
    synced: Mapping[Path, bytes]
    unsynced: Mapping[Path, tuple[Change, ...]]

    def restore(
        self,
        directory_from: Path,
        directory_to: Path,
        survives: Callable[[Path], bool] = nothing,
    ) -> None:
        """Write what is left of the files below one directory into another, which is empty.

        ``survives`` is asked for each unsynced change of a file, oldest first, whether it
        reached the disk all the same: what tears a file is that some did and some did not.
        """
        directory_to.mkdir(parents=True, exist_ok=True)
        if any(directory_to.iterdir()):
            raise FileExistsError(f"{directory_to} is not empty.")
        source = directory_from.resolve()
        for path, content in self.synced.items():
            if not path.is_relative_to(source):
                continue
            target = directory_to / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            surviving = [change for change in self.unsynced[path] if survives(path)]
            target.write_bytes(_changed(content, surviving))


def states(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Of the snapshots between which no more was synced, the last: the one that owes the most."""
    found: list[Snapshot] = []
    for snapshot in snapshots:
        if found and found[-1].synced == snapshot.synced:
            found[-1] = snapshot
        else:
            found.append(snapshot)
    return found


# A connection that outlives the block still points to the VFS it was opened with.
_KEPT: list[PowerCut] = []


@final
class PowerCut:
    """While entered, every database opened by a plain path through ``module`` is recorded.

    ``on_operation`` is called after each write, truncate, sync and delete with what a cut
    would leave at that instant; ``snapshots.append`` does to keep them all. It is called one
    operation at a time, so it must not wait for another thread.
    """

    def __init__(
        self,
        module: ModuleType,
        on_operation: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self.operations = 0
        self._on_operation = on_operation
        self._library = sqlite_library(module)
        self._lock = threading.RLock()
        self._last: tuple[str, Path | None] = ("start", None)
        self._directory: dict[Path, _Inode] = {}
        self._synced_directory: dict[Path, _Inode] = {}
        self._handles: dict[int, _Handle] = {}
        self._methods: dict[int, _IoMethods] = {}
        self._callbacks = (_OPEN(self._open), _DELETE(self._delete))
        self._entered = False

    def __enter__(self) -> PowerCut:
        _KEPT.append(self)
        self._original = self._library.sqlite3_vfs_find(None)
        self._vfs = _Vfs.from_buffer_copy(self._original.contents)
        self._vfs.zName = f"powercut-{id(self)}".encode()
        self._vfs.xOpen, self._vfs.xDelete = self._callbacks
        self._entered = True
        self._library.sqlite3_vfs_register(self._vfs, 1)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave what is still open to SQLite's own VFS, from here on unrecorded."""
        original = self._original.contents
        self._vfs.xOpen, self._vfs.xDelete = original.xOpen, original.xDelete
        with self._lock:
            self._entered = False
            self._on_operation = None
            for address, handle in self._handles.items():
                _OpenFile.from_address(address).pMethods = ctypes.pointer(handle.methods)
        self._library.sqlite3_vfs_register(self._original, 1)
        self._library.sqlite3_vfs_unregister(self._vfs)

    def snapshot(self) -> Snapshot:
        """What a cut at this instant would leave."""
        with self._lock:
            kind, path = self._last
            inodes = self._synced_directory
            return Snapshot(
                self.operations,
                kind,
                path,
                {name: inode.synced for name, inode in inodes.items()},
                {name: tuple(inode.unsynced) for name, inode in inodes.items()},
            )

    def cut(
        self,
        directory_from: Path,
        directory_to: Path,
        survives: Callable[[Path], bool] = nothing,
    ) -> None:
        """Write what a cut at this instant would leave into another, empty directory."""
        self.snapshot().restore(directory_from, directory_to, survives)

    def _happened(self, kind: str, path: Path) -> None:
        self.operations += 1
        self._last = (kind, path)
        if self._on_operation is not None:
            self._on_operation(self.snapshot())

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: int) -> int:
        with self._lock:
            path = None if name is None else Path(os.fsdecode(ctypes.string_at(name)))
            # A file without a name is a temporary one, and nobody looks for it after a cut.
            inode = None if path is None else self._found(path)
            original = self._original.contents
            result = original.xOpen(ctypes.addressof(original), name, file, flags, out_flags)
            if result == SQLITE_OK and self._entered and path is not None and inode is not None:
                syncs_directory = bool(flags & SQLITE_OPEN_CREATE and flags & JOURNALS)
                methods = self._wrap(file)
                self._handles[file] = _Handle(path, inode, methods, syncs_directory)
            return int(result)

    def _found(self, path: Path) -> _Inode:
        """The file of that name; one not seen before is taken as it lies on the disk."""
        if path not in self._directory:
            # A journal SQLite has yet to look at may be what makes its database whole.
            for name in (path, Path(f"{path}-journal"), Path(f"{path}-wal")):
                if name not in self._directory and name.exists():
                    self._directory[name] = _Inode(name.read_bytes())
                    self._synced_directory[name] = self._directory[name]
        return self._directory.setdefault(path, _Inode())

    def _wrap(self, file: int) -> _IoMethods:
        """Put the recording methods before those of an open file, which are returned."""
        opened = _OpenFile.from_address(file)
        original: _IoMethods = opened.pMethods.contents
        address = ctypes.addressof(original)
        if address not in self._methods:
            methods = _IoMethods.from_buffer_copy(original)
            # From version 3 on SQLite may read through mapped memory.
            methods.iVersion = min(original.iVersion, 2)
            methods.xClose = _CLOSE(self._close)
            methods.xWrite = _WRITE(self._write)
            methods.xTruncate = _TRUNCATE(self._truncate)
            methods.xSync = _SYNC(self._sync)
            self._methods[address] = methods
        opened.pMethods = ctypes.pointer(self._methods[address])
        return original

    def _close(self, file: int) -> int:
        with self._lock:
            handle = self._handles.pop(file)
            return int(handle.methods.xClose(file))

    def _write(self, file: int, data: int, amount: int, offset: int) -> int:
        with self._lock:
            handle = self._handles[file]
            result = handle.methods.xWrite(file, data, amount, offset)
            if result == SQLITE_OK:
                handle.inode.unsynced.append(Change(offset, ctypes.string_at(data, amount)))
                self._happened("write", handle.path)
            return int(result)

    def _truncate(self, file: int, size: int) -> int:
        with self._lock:
            handle = self._handles[file]
            result = handle.methods.xTruncate(file, size)
            if result == SQLITE_OK:
                handle.inode.unsynced.append(Change(size, None))
                self._happened("truncate", handle.path)
            return int(result)

    def _sync(self, file: int, flags: int) -> int:
        with self._lock:
            handle = self._handles[file]
            handle.inode.sync()
            if self._directory.get(handle.path) is handle.inode:
                self._synced_directory[handle.path] = handle.inode
            # SQLite's own VFS syncs the directory at the first sync of a journal it opened.
            if handle.syncs_directory:
                handle.syncs_directory = False
                self._sync_directory(handle.path.parent)
            self._happened("sync", handle.path)
            return SQLITE_OK

    def _delete(self, vfs: int, name: int, syncs_directory: int) -> int:
        with self._lock:
            path = Path(os.fsdecode(ctypes.string_at(name)))
            original = self._original.contents
            result = original.xDelete(ctypes.addressof(original), name, syncs_directory)
            if result == SQLITE_OK:
                self._directory.pop(path, None)
                if syncs_directory & 1:
                    self._sync_directory(path.parent)
                self._happened("delete", path)
            return int(result)

    def _sync_directory(self, directory: Path) -> None:
        for path in {*self._directory, *self._synced_directory}:
            if path.parent == directory:
                if path in self._directory:
                    self._synced_directory[path] = self._directory[path]
                else:
                    del self._synced_directory[path]
