"""What a process may do that decodes strangers' files: limited memory, no network, few writes.

Bubblewrap (https://github.com/containers/bubblewrap) does it where it is installed and may make
namespaces; elsewhere on Linux the kernel's Landlock does, without a program of its own. A seccomp
filter refuses new sockets in both cases. What works on this machine is found out by trying it.
Run as a script, this module is that trial; so it imports nothing but the standard library.
"""

import ctypes
import errno
import json
import logging
import math
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_log = logging.getLogger(__name__)

GIB = 2**30
# Beyond what a worker has when it is ready. A genuine 8K video of 10 bits, decoded by 16 threads
# with 16 reference pictures, takes 3.2 GB; a usual one 0.3 GB.
MEMORY_BYTES = 4 * GIB
_SPENT = 0.9
_TRIAL_S = 20.0

# linux/landlock.h: rights to change files, with the ABI that knows them.
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove and make of all kinds
_SYS_LANDLOCK = 444  # create_ruleset; then add_rule, restrict_self: the same on all architectures
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
# linux/audit.h, and the numbers of socket() and ioctl(); io_uring_setup() has one on all.
_ARCHITECTURES = {"x86_64": (0xC000003E, 41, 16), "aarch64": (0xC00000B7, 198, 29)}
_TIOCSTI = 0x5412  # types into the terminal, as if the user did
_SYS_IO_URING_SETUP = 425
_GPU_DEVICES = ("nvidia*", "nvidia-caps", "kfd", "dri", "dxg")


@dataclass(frozen=True)
class Confinement:
    """The bounds of a process; what the machine can't enforce is left out."""

    write_to: tuple[Path, ...] = ()  # folders, which exist; nothing else is written
    memory_bytes: int = MEMORY_BYTES  # beyond what it has when it is ready
    has_gpu: bool = (
        False  # it may use one: then memory isn't limited, as CUDA reserves what it wants
    )
    has_sockets: bool = False  # it asks a server on this machine: Unix sockets alone


@dataclass(frozen=True)
class Enforced:
    """What holds on this machine, and by which means."""

    bubblewrap: str | None  # the program's path where it works
    files: bool = False  # writes outside Confinement.write_to are refused
    network: bool = False  # connections are refused
    memory: bool = False

    def __str__(self) -> str:
        """Return it as words for a log."""
        held = [word for word in ("memory", "network", "files") if getattr(self, word)]
        free = [word for word in ("memory", "network", "files") if not getattr(self, word)]
        by = "bubblewrap" if self.bubblewrap else "the kernel"
        parts = [f"{', '.join(held)} limited by {by}"] if held else []
        parts += [f"{', '.join(free)} not limited on this machine"] if free else []
        return "; ".join(parts)


@cache
def enforced() -> Enforced:
    """Return what this machine enforces; tries it the first time, and logs it."""
    found = _try_all(shutil.which("bwrap"))
    _log.log(
        logging.DEBUG if found.files and found.network and found.memory else logging.INFO,
        "Processes that decode videos: %s. See docs/serve.md, What a decoder may do.", found,
    )  # fmt: skip
    return found


def _try_all(bubblewrap: str | None) -> Enforced:
    if not sys.platform.startswith("linux"):
        return Enforced(None)
    with TemporaryDirectory(prefix="unmask-trial-") as folder:
        if bubblewrap:
            found = _try(bubblewrap, Path(folder))
            if found.files and found.network:
                return found
        return _try(None, Path(folder))


def _try(bubblewrap: str | None, folder: Path) -> Enforced:
    """Return what a process that is confined so is really refused."""
    inside = folder / "inside"
    inside.mkdir(exist_ok=True)
    confinement = Confinement((inside,))
    command = [
        *(_prefix(bubblewrap, confinement) if bubblewrap else []),
        sys.executable, "-I", "-S", __file__, str(inside), str(folder / "outside"),
        "" if bubblewrap else "alone",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=True
        )
        return Enforced(bubblewrap, **json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        _log.debug("a trial of %s: %s", bubblewrap or "Landlock", error)
        return Enforced(None)


def prefix(confinement: Confinement) -> list[str]:
    """Return what to put before a command to confine it; nothing if the process does it itself."""
    bubblewrap = enforced().bubblewrap
    return _prefix(bubblewrap, confinement) if bubblewrap else []


def _prefix(bubblewrap: str, confinement: Confinement) -> list[str]:
    command = [
        bubblewrap, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
        "--ro-bind-try", "/dev/shm", "/dev/shm",  # videos may lie there
        "--unshare-net", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL",
    ]  # fmt: skip
    if os.geteuid() == 0:  # as root reads and writes what belongs to others
        command += ["--cap-add", "CAP_DAC_OVERRIDE"]
    for folder in confinement.write_to:
        path = os.path.realpath(folder)
        command += ["--bind", path, path]
    for device in _gpu_devices() if confinement.has_gpu else ():
        command += ["--dev-bind", str(device), str(device)]
    return command


def _gpu_devices() -> list[Path]:
    return [path for name in _GPU_DEVICES for path in sorted(Path("/dev").glob(name))]


def confine(confinement: Confinement, *, in_bubblewrap: bool) -> None:
    """Give up what confinement does not allow, for good; memory apart.

    It holds for threads that are started later, so it comes first of all in a process. What the
    kernel does not know is left out: enforced() says what that is.
    """
    with suppress(OSError):  # when memory runs out, this process should end, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return
    with suppress(OSError):
        if not in_bubblewrap:
            _keep_files(libc, confinement)
    with suppress(OSError):
        _refuse_sockets(libc, but_unix=confinement.has_sockets)
    if confinement.write_to:
        os.environ["TMPDIR"] = os.path.realpath(confinement.write_to[0])


class MemoryLimit:
    """Lets this process have so many bytes more than now; then an allocation fails.

    It limits private memory that can be written (RLIMIT_DATA), not address space, of which torch
    maps gigabytes that it never touches. A process that uses CUDA is left alone.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._spent_bytes: float = math.inf
        torch = sys.modules.get("torch")
        if not sys.platform.startswith("linux") or (torch and torch.cuda.is_initialized()):
            return
        import resource

        most = _memory("VmData") + memory_bytes
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        self._spent_bytes = _memory("VmRSS") + _SPENT * memory_bytes

    def is_spent(self) -> bool:
        """Say whether this process ever came near its limit.

        What it made then counts for nothing: codecs take an allocation that fails for damage of
        the file, and leave pictures out.
        """
        return self._spent_bytes < math.inf and _memory("VmHWM") > self._spent_bytes


def _memory(kind: str) -> int:
    """Return bytes that the kernel counts: see proc_pid_status(5)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    [words] = [line.split() for line in status.splitlines() if line.startswith(f"{kind}:")]
    return int(words[1]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error, or what caused it, is that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        words = str(seen)
        if (
            isinstance(seen, MemoryError)
            or getattr(seen, "code", None) == -4  # OpenCV's StsNoMem
            or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM)
            or (
                isinstance(seen, RuntimeError)  # torch's; Python's, of a thread without a stack
                and ("can't allocate memory" in words or "can't start new thread" in words)
            )
        ):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


# ---------------------------------------------------------------- the kernel's means


def _keep_files(libc: ctypes.CDLL, confinement: Confinement) -> None:
    """Refuse changes of files elsewhere, by Landlock (docs.kernel.org/userspace-api/landlock)."""
    version = _call(libc, _SYS_LANDLOCK, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    handled = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=Q", handled)
    ruleset = _call(libc, _SYS_LANDLOCK, attributes, ctypes.c_size_t(8), ctypes.c_uint(0))
    try:
        for folder in confinement.write_to:
            _allow(libc, ruleset, folder, handled)
        for device in (Path("/dev/null"), *(_gpu_devices() if confinement.has_gpu else ())):
            _allow(libc, ruleset, device, handled & (_WRITE_FILE | _TRUNCATE))
        _call(libc, _SYS_LANDLOCK + 2, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, beneath)
        _call(
            libc, _SYS_LANDLOCK + 1, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0)
        )
    finally:
        os.close(beneath)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    found: int = libc.syscall(ctypes.c_long(number), *arguments)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def _refuse_sockets(libc: ctypes.CDLL, *, but_unix: bool) -> None:
    """Refuse new sockets, and typing into a terminal, by a seccomp filter.

    See docs.kernel.org/userspace-api/seccomp_filter.
    """
    if platform.machine() not in _ARCHITECTURES or sys.byteorder != "little":
        raise OSError(errno.ENOSYS, "no filter for this architecture")
    architecture, socket_call, ioctl_call = _ARCHITECTURES[platform.machine()]
    load, if_equal, if_at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, JGE, RET
    allowed, refused = 0x7FFF0000, 0x00050000 | errno.EACCES
    family = int(socket.AF_UNIX) if but_unix else 0xFFFFFFFF  # which is none
    steps = [  # code, how many steps to jump over if true, if not, constant
        (load, 0, 0, 4),  # the architecture: another has other numbers
        (if_equal, 0, 11, architecture),
        (load, 0, 0, 0),  # the call's number
        (if_at_least, 9, 0, 0x40000000),  # x32, with other numbers again
        (if_equal, 8, 0, _SYS_IO_URING_SETUP),
        (if_equal, 2, 0, ioctl_call),
        (if_equal, 3, 0, socket_call),
        (give, 0, 0, allowed),
        (load, 0, 0, 24),  # ioctl's second argument: what is asked of a device
        (if_equal, 3, 2, _TIOCSTI),
        (load, 0, 0, 16),  # socket's first argument: the family
        (if_equal, 0, 1, family),
        (give, 0, 0, allowed),
        (give, 0, 0, refused),
    ]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(program, len(program))
    wanted = struct.pack("@HP", len(steps), ctypes.addressof(held))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, wanted, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# ---------------------------------------------------------------- the trial


def _is_refused(outside: Path) -> bool:
    try:
        outside.write_bytes(b"x")
    except OSError:
        return True
    return False


def _is_cut_off() -> bool:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        with suppress(OSError):
            socket.socket(family, socket.SOCK_DGRAM).close()
            return False
    return True


def _is_limited() -> bool:
    MemoryLimit(256 * 2**20)
    try:
        bytearray(2**30)
    except MemoryError:
        return True
    return False


def _main(arguments: Sequence[str]) -> None:
    inside, outside, alone = arguments
    confine(Confinement((Path(inside),)), in_bubblewrap=not alone)
    (Path(inside) / "written").write_bytes(b"x")  # if not, the trial fails
    found = {"files": _is_refused(Path(outside)), "network": _is_cut_off(), "memory": _is_limited()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1:])
