"""Write the passwords of containers/compose.yaml: `python3 containers/make_secrets.py`.

Each is made once, from the system's randomness, and never changed: what is there stays. Needs
nothing but Python.
"""

import json
import sys
from pathlib import Path
from secrets import token_hex

FOLDER = Path(__file__).parent / "secrets"
_BYTES = 24


def write(folder: Path) -> list[Path]:
    """Write what is missing; return the files that were written.

    Containers read them as users of their own, so the files can be read by everybody; the folder
    around them can't be entered by anybody else.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    found = {name: token_hex(_BYTES) for name in ("serve", "postgres", "grafana")}
    contents = {f"{name}_password": f"{word}\n" for name, word in found.items()}
    key, secret = token_hex(10), token_hex(_BYTES)
    users = {
        "name": "mlflow",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin"],
    }
    store = {
        "s3_users": json.dumps({"identities": [users]}, indent=2) + "\n",
        "s3_credentials": f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n",
    }
    if not all((folder / name).exists() for name in store):  # one key stands in both
        for name in store:
            (folder / name).unlink(missing_ok=True)
        contents |= store
    written = [folder / name for name in contents if not (folder / name).exists()]
    for path in written:
        path.touch(mode=0o600)
        path.write_text(contents[path.name], encoding="ascii")
        path.chmod(0o644)
    return written


def main() -> None:
    """Write the passwords into the folder beside this file, and say where they are."""
    written = write(FOLDER)
    made = f"made {', '.join(path.name for path in written)}" if written else "all there already"
    sys.stderr.write(f"{FOLDER}: {made}\n")


if __name__ == "__main__":
    main()
