"""Names of people, recordings and methods: which spellings are one name.

Lists of videos are typed by hand, exported from spreadsheets and merged from several systems. There
"ann", "Ann " and "ANN" are one person; read as three, they would stand on two sides of a split.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

# Characters that show nothing: Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt),
# and all other format characters, which the pattern cannot name and _is_invisible looks up.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
# Blanks of all widths. Not \s, which takes control characters for blanks: within a name they have
# no place, and a reader should refuse them. At its ends a cell's line end or tab is left out.
_BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def tidy(text: str) -> str:
    """Return a name without what nobody sees: in NFC, trimmed, with single plain blanks.

    Case, accents and control characters stay.

    >>> tidy(" Ann\u00a0\u00a0Lee\u200b")
    'Ann Lee'
    """
    shown = "".join(c for c in _INVISIBLE.sub("", text) if unicodedata.category(c) != "Cf")
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", shown).strip("\t\n\r ")).strip("\t\n\r ")


def key_of(name: str) -> str:
    """Return what all spellings of a name share: no case, no difference of width or ligature.

    That is close to Unicode's toNFKC_Casefold (The Unicode Standard, section 3.13), in which
    letters of different scripts stay different.

    >>> key_of("\uff21nn ") == key_of("ANN") == "ann"
    True
    """
    folded = unicodedata.normalize("NFKC", tidy(name)).casefold()
    return tidy(unicodedata.normalize("NFKC", folded))


def join_spellings(names: Iterable[str]) -> dict[str, str]:
    """Return for each spelling the one that stands for all of its name.

    That is the most common one, so that a single slip renames nobody; of equally common ones the
    first in order.

    >>> join_spellings(["ann", "ann ", "Ann", "bob"])
    {'ann': 'ann', 'ann ': 'ann', 'Ann': 'ann', 'bob': 'bob'}
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    counts = Counter(names)
    for name, count in counts.items():
        spellings[key_of(name)][tidy(name)] += count
    chosen = {
        key: min(found, key=lambda spelling: (-found[spelling], spelling))
        for key, found in spellings.items()
    }
    return {name: chosen[key_of(name)] for name in counts}


def say_joined(meant: Mapping[str, str], kind: str) -> list[str]:
    """Return a sentence for each name of which join_spellings met several spellings.

    >>> say_joined({"ann": "ann", "Ann ": "ann", "bob": "bob"}, "person")
    ["'Ann ' and 'ann' are taken for one person, 'ann'"]
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name, chosen in meant.items():
        spellings[chosen].append(name)
    said = []
    for chosen, found in sorted(spellings.items()):
        if len(found) > 1:
            *others, last = (ascii(name) for name in sorted(found))
            said.append(f"{', '.join(others)} and {last} are taken for one {kind}, {chosen!a}")
    return said
