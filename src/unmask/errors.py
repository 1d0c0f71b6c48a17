"""The errors a user can meet. Each message says what was asked, what was found, what to do."""

# What reading a stranger's JSON, YAML or headers raises where they are not what they should be: a
# word for a number, a list for an object, a number without end, lists in lists without end.
MALFORMED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class UnmaskError(Exception):
    """Bad input or params: commands and stages print it as one line and exit with code 1."""


class ParamsError(UnmaskError):
    """params.yaml holds an unknown key, a wrong type, a value out of range or a clash."""


class DatasetError(UnmaskError):
    """A chunk, an index or a split is not what its layout promises."""


class DiskError(UnmaskError):
    """A folder can't be written: no space, read only, or another run is writing there."""


class WeightsError(UnmaskError):
    """A weights file is missing, has another digest or does not fit the backbone."""


class OneClassError(UnmaskError):
    """A metric needs both classes and the labels hold one."""


class NoMapError(UnmaskError):
    """A net's features have no places in the picture that could be shown."""
