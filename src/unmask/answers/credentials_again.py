"""A video's content credentials read again, beside what a report says of them.

Nothing of it is part of a verdict.
"""

from pathlib import Path

from unmask.answers import ask_files
from unmask.answers.file_says import Credentials, State

_HELD = (State.VALID, State.TRUSTED)  # as they were signed
# What both must say alike; the words of `detail` are a library's, and change with it.
_COMPARED = {
    "signer": "another signer", "organisation": "another organisation",
    "signed_at": "another time of signing", "generators": "other programs",
    "actions": "other edits", "ingredients": "other ingredients", "left_out": "other lists",
}  # fmt: skip


def compare(claimed: Credentials, video: Path, trusted_pem: str | None) -> tuple[bool | None, str]:
    """Return whether a video's credentials are those that a report tells of, and how they differ.

    None: they can't be compared, since they were not read, here or there. Whom a report trusted is
    not known without the list it was made with: then a signer that was trusted may be any.
    """
    with ask_files.reading([video], trusted_pem) as asked:
        found = asked.of(video).credentials
    states = f"{found.state} now, {claimed.state} in the report"
    if State.NOT_READ in (found.state, claimed.state):
        return None, f"{states}: reading them takes the extra c2pa"
    differences = [
        words for name, words in _COMPARED.items()
        if getattr(found, name) != getattr(claimed, name)
    ]  # fmt: skip
    faults = [fault for fault in found.faults if fault not in claimed.faults]
    if faults:
        differences.append(f"what does not hold: {', '.join(faults)}")
    elif found.faults != claimed.faults:
        differences.append("fewer faults")
    is_of_trust = found.state != claimed.state and {found.state, claimed.state} <= set(_HELD)
    if found.state != claimed.state and not is_of_trust:
        differences.insert(0, states)
    elif is_of_trust and found.state is State.VALID and trusted_pem is not None:
        differences.insert(0, f"{states}: the signer is not of the list that was given (--trust)")
    if differences:
        return False, "; ".join(differences)
    if is_of_trust and found.state is State.VALID:
        return None, f"{states}, and else the same: whom it trusted is compared with --trust"
    if is_of_trust:
        return True, f"{states}, by the list that was given; else the same"
    return True, f"{found.state}, as in the report"
