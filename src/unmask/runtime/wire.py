"""Messages between processes: pickles, of which only plain data is loaded.

A worker process decodes files of strangers. Should one of them take it over, its answers must not
run code in its parent, which pickle would otherwise allow.
"""

import dataclasses
import io
import pickle
import sys
from enum import Enum
from typing import Any

# Besides classes of records: what paths, arrays and numbers are made of when they are unpickled.
_PLAIN = {
    ("builtins", "bytearray"), ("builtins", "complex"), ("builtins", "frozenset"),
    ("builtins", "range"), ("builtins", "set"), ("builtins", "slice"),
    ("collections", "Counter"), ("collections", "OrderedDict"),
    ("fractions", "Fraction"),
    ("numpy", "dtype"), ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("pathlib", "PosixPath"), ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"), ("pathlib._local", "WindowsPath"),  # Python 3.13
}  # fmt: skip


def dumps(message: Any) -> bytes:
    """Return a message as bytes."""
    return pickle.dumps(message, protocol=5)


def loads(message: bytes) -> Any:
    """Return a message that another process wrote.

    It may hold numbers, strings, containers, paths, NumPy arrays, exceptions, and this project's
    dataclasses, enums and params.

    Raises:
        UnpicklingError: it holds anything else, or is cut off.
    """
    try:
        return _Loader(io.BytesIO(message)).load()
    except (AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError) as error:
        raise pickle.UnpicklingError(f"Asked for a process's message; {error!r}.") from error


class _Loader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):  # how Python 3.11.0 to 3.11.3 writes enums
            return _member
        # Only what has been imported: an import runs code, too.
        found = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if (module, name) in _PLAIN and found is not None:
            return found
        if isinstance(found, type) and _is_data(found):
            return found
        raise pickle.UnpicklingError(
            f"Asked for a process's message; it holds {module}.{name}, which is no plain data."
        )


def _member(kind: Any, name: Any) -> Enum:
    """Return a member of an enum by its name, and nothing else that `getattr` would."""
    if isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__:
        return kind.__members__[name]
    raise pickle.UnpicklingError(
        f"Asked for a process's message; it holds {name!r} of {kind!r}, which is no plain data."
    )


def _is_data(kind: type) -> bool:
    if issubclass(kind, BaseException):
        return True
    is_ours = kind.__module__.split(".")[0] == "unmask"
    # pydantic's models, the params, have __pydantic_fields__; asked so as not to import it here.
    is_record = dataclasses.is_dataclass(kind) or hasattr(kind, "__pydantic_fields__")
    return is_ours and (is_record or issubclass(kind, Enum))
