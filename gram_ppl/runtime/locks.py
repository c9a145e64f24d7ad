"""A file's lock by the operating system, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import os

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # a file system that has none
FAR = 1 << 30  # Windows lets nobody read a locked byte: one beyond all that is written

try:
    from fcntl import LOCK_EX, LOCK_NB, flock

    def _take(file: int) -> None:
        flock(file, LOCK_EX | LOCK_NB)

except ImportError:
    try:
        from msvcrt import LK_NBLCK, locking  # type: ignore[attr-defined,unused-ignore]

        def _take(file: int) -> None:
            os.lseek(file, FAR, os.SEEK_SET)
            locking(file, LK_NBLCK, 1)

    except ImportError:  # neither POSIX nor Windows: nothing is locked

        def _take(file: int) -> None:
            pass


def lock(file: int) -> bool:
    """Lock an open file without waiting: whether nobody else holds it. True too where there are no locks."""
    try:
        _take(file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno == errno.EDEADLK:  # msvcrt's word for held
            return False
        if error.errno not in NO_LOCKS:
            raise
    return True
