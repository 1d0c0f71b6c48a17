"""CSV tables that data sets bring: their rows, once the columns that are needed are there."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from unmask.data.archive import ChunkFiles, first_few, shorten
from unmask.data.layouts.entry import MAX_METADATA_BYTES
from unmask.data.layouts.rows import check_count
from unmask.data.words import key_of, tidy
from unmask.errors import DatasetError


def read_table(
    files: ChunkFiles, path: str, needed: Sequence[str | tuple[str, ...]]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a CSV file with its line's number; columns are named in lower case.

    needed names the columns that have to be there; a tuple names several spellings of one, of which
    the first that is there gives the values under the tuple's first name. Cells are tidied. Rows
    without any value are passed over, and more cells than columns are given as "".

    Raises:
        DatasetError: the file is too large, not CSV in UTF-8, or lacks a column.
    """
    where = f"{path} of {files.where}"
    content = files.read_bytes(path, MAX_METADATA_BYTES)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = [key_of(name) for name in next(reader, [])]
        places = _places(columns, needed, where)
        count = 0
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            count += 1
            check_count(count, where)
            if len(cells) < len(columns):
                raise DatasetError(
                    f"Asked for {where}; line {reader.line_num} has {len(cells)} values for "
                    f"{len(columns)} columns. Mend it or take a fresh copy."
                )
            row = {name: tidy(cells[n]) for n, name in enumerate(columns)}
            row |= {name: tidy(cells[n]) for name, n in places.items()}
            yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"Asked for {where}; it is not CSV in UTF-8: {error}. Mend it or take a fresh copy."
        ) from error


def _places(
    columns: Sequence[str], needed: Sequence[str | tuple[str, ...]], where: str
) -> Mapping[str, int]:
    places, missing = {}, []
    for spellings in needed:
        names = (spellings,) if isinstance(spellings, str) else spellings
        there = [name for name in names if name in columns]
        if there:
            places[names[0]] = columns.index(there[0])
        else:
            missing.append(" or ".join(names))
    twice = sorted({name for name in places if columns.count(name) > 1})
    if missing or twice:
        said = f"no column {first_few(missing)}" if missing else f"{first_few(twice)} twice"
        raise DatasetError(
            f"Asked for {where}; found {said}, but the columns {shorten(list(columns))}. Take a "
            "fresh copy of the data set's own file."
        )
    return places
