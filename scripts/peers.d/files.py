# SPDX-License-Identifier: GPL-2.0-only
"""What Python and numpy do to a file and to mappings of it; prints what came of each, for comparison.

Usage: files.py FILE OTHER-FILE-TO-COPY-TO
"""
import errno
import fcntl
import mmap
import os
import select
import shutil
import stat
import sys
import time
import zlib

import numpy

PATH, OTHER = sys.argv[1:]
SIZE = os.stat(PATH).st_size


def step(name):
    """Run the function that follows at once, and print what it returns or raises."""
    def run(function):
        try:
            result = function()
        except OSError as e:
            result = errno.errorcode.get(e.errno, e.errno)
        except (ValueError, IndexError, TypeError, BufferError, SystemError) as e:
            result = f"{type(e).__name__}: {e}"
        print(f"{name}: {result}")
    return run


def crc(data):
    return zlib.crc32(bytes(data))


file = open(PATH, "r+b", buffering=0)


@step("mmap of all of it")
def _():
    with mmap.mmap(file.fileno(), 0) as m:
        first = crc(m)
        m[5000:5007] = b"written"
        m.flush()
        m.flush(4096, 4096)
        return len(m), m.size(), first, os.pread(file.fileno(), 7, 5000), m.find(b"written"), m.rfind(b"\x7f")


@step("mmap: reading, writing, moving as in a file")
def _():
    with mmap.mmap(file.fileno(), 0) as m:
        m.seek(100)
        m.write(b"line\n")
        m.move(8192, 100, 5)
        m.seek(8192)
        return m.readline(), m.tell(), crc(m)


@step("mmap: two share, a private one does not")
def _():
    with mmap.mmap(file.fileno(), 0) as one, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as two, \
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as copy:
        one[0] = 17
        copy[0] = 18
        return two[0], copy[0], os.pread(file.fileno(), 1, 0)


@step("mmap: read only is")
def _():
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
        m[0] = 1


@step("mmap: part of it, at an offset")
def _():
    with mmap.mmap(file.fileno(), 5000, offset=8192) as m:
        return crc(m)


@step("mmap: longer than the file")
def _():
    return mmap.mmap(file.fileno(), SIZE * 2)


@step("mmap: resize makes both longer, and shorter")
def _():
    with mmap.mmap(file.fileno(), 0) as m:
        m.resize(SIZE * 4)
        m[-1] = 99
        longer = os.fstat(file.fileno()).st_size, crc(m)
        m.resize(SIZE)
        return longer, os.fstat(file.fileno()).st_size, crc(m)


@step("mmap: every advice")
def _():
    def advise(m, name):
        try:
            m.madvise(getattr(mmap, name))
            return 0
        except OSError as e:
            return errno.errorcode[e.errno]

    with mmap.mmap(file.fileno(), 0) as m:
        names = [name for name in sorted(dir(mmap)) if name.startswith("MADV_")]
        harmful = "MADV_HWPOISON", "MADV_SOFT_OFFLINE"
        return [(name, advise(m, name)) for name in names if name not in harmful], crc(m)


@step("mmap: fork")
def _():
    with mmap.mmap(file.fileno(), 0) as m:
        child = os.fork()
        if not child:
            m[0:5] = b"child"
            os._exit(0)
        return os.waitpid(child, 0)[1], m[0:5]


@step("stat")
def _():
    st = os.fstat(file.fileno())
    return stat.filemode(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_blksize, st.st_rdev


@step("blocks of what is a hole, and of what is not")
def _():
    os.truncate(PATH, 0)
    os.truncate(PATH, SIZE)
    none = os.stat(PATH).st_blocks
    os.pwrite(file.fileno(), b"x", 10000)
    return none, os.stat(PATH).st_blocks


@step("SEEK_DATA, SEEK_HOLE")
def _():
    return [os.lseek(file.fileno(), at, how) for at in (0, 9000) for how in (os.SEEK_DATA, os.SEEK_HOLE)]


@step("SEEK_DATA where there is none")
def _():
    return os.lseek(file.fileno(), 20000, os.SEEK_DATA)


@step("posix_fallocate")
def _():
    os.posix_fallocate(file.fileno(), 0, SIZE + 4096)
    return os.stat(PATH).st_size, os.stat(PATH).st_blocks


@step("posix_fadvise")
def _():
    return [os.posix_fadvise(file.fileno(), 0, 0, how) for how in range(6)]


@step("writev, readv, preadv, at the end and past it")
def _():
    os.lseek(file.fileno(), 0, os.SEEK_END)
    wrote = os.writev(file.fileno(), [b"one", b"two"])
    parts = bytearray(4), bytearray(10)
    return wrote, os.preadv(file.fileno(), parts, SIZE + 4096), parts, os.pread(file.fileno(), 5, 1 << 30)


@step("append")
def _():
    with open(PATH, "ab") as f:
        f.write(b"appended")
    return os.stat(PATH).st_size


@step("copy_file_range")
def _():
    with open(OTHER, "r+b") as to:
        n = os.copy_file_range(file.fileno(), to.fileno(), SIZE, 0)
    return n, os.stat(OTHER).st_size


@step("sendfile")
def _():
    with open(OTHER, "r+b") as to:
        return os.sendfile(to.fileno(), file.fileno(), 100, 5000)


@step("shutil.copyfile")
def _():
    shutil.copyfile(PATH, OTHER)
    return crc(open(PATH, "rb").read()) == crc(open(OTHER, "rb").read())


@step("lockf: who else has it")
def _():
    fcntl.lockf(file, fcntl.LOCK_EX, 100, 50)
    child = os.fork()
    if not child:
        with open(PATH, "r+b") as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 40)
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 55)
                os._exit(0)
            except OSError as e:
                os._exit(e.errno)
    return errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@step("chmod, chown, utime")
def _():
    os.chmod(PATH, 0o640)
    os.fchown(file.fileno(), 65534, 100)
    os.utime(PATH, (1, 2))
    st = os.stat(PATH)
    return stat.filemode(st.st_mode), st.st_uid, st.st_gid, st.st_atime, st.st_mtime


@step("newer when it is written")
def _():
    os.pwrite(file.fileno(), b"new", 0)
    return time.time() - os.stat(PATH).st_mtime < 60, os.stat(PATH).st_mtime == os.stat(PATH).st_ctime


@step("extended attributes")
def _():
    return os.listxattr(PATH)


@step("statvfs")
def _():
    return os.fstatvfs(file.fileno()).f_bsize, os.fstatvfs(file.fileno()).f_namemax


@step("poll, epoll")
def _():
    p = select.poll()
    p.register(file, select.POLLIN | select.POLLOUT)
    events = [event for _, event in p.poll(0)]
    try:
        select.epoll().register(file, select.EPOLLIN)
    except OSError as e:
        events.append(errno.errorcode[e.errno])
    return events


@step("O_TRUNC")
def _():
    open(PATH, "wb").close()
    return os.stat(PATH).st_size


@step("link, rename, unlink of what has no name")
def _():
    results = []
    for call in (lambda: os.link(PATH, "/tmp/link"), lambda: os.rename(PATH, "/tmp/name"), lambda: os.unlink(PATH)):
        try:
            call()
        except OSError as e:
            results.append(errno.errorcode[e.errno])
    return results


@step("numpy.memmap: w+")
def _():
    a = numpy.memmap(PATH, dtype="float64", mode="w+", shape=(1000, 100))
    a[:] = numpy.arange(100000).reshape(1000, 100)
    a.flush()
    return a.sum(), os.stat(PATH).st_size


@step("numpy.memmap: r+, of all of it")
def _():
    a = numpy.memmap(PATH, dtype="float64", mode="r+")
    a[::7] *= 2
    a.sort()
    return a.shape, a.sum(), float(a[-1])


@step("numpy.memmap: c")
def _():
    a = numpy.memmap(PATH, dtype="float64", mode="c")
    a[:] = 1
    return a.sum(), numpy.fromfile(PATH, dtype="float64").sum()


@step("numpy.memmap: r, at an offset")
def _():
    a = numpy.memmap(PATH, dtype="float64", mode="r", offset=8 * 1001, shape=(10, 10), order="F")
    a[0] = 1


@step("numpy.memmap: r+ past the end")
def _():
    a = numpy.memmap(PATH, dtype="int8", mode="r+", offset=10, shape=(1 << 20,))
    a[-1] = 5
    return os.stat(PATH).st_size


@step("numpy.save, numpy.load of a mapping")
def _():
    with open(PATH, "wb") as f:
        numpy.save(f, numpy.arange(5000))
    a = numpy.load(PATH, mmap_mode="r+")
    a += 1
    a.flush()
    return type(a).__name__, numpy.load(PATH).sum()


@step("numpy.tofile, fromfile")
def _():
    numpy.arange(1000).tofile(PATH)
    return numpy.fromfile(PATH, dtype=int).sum(), os.stat(PATH).st_size
