"""Write the passwords of deploy/compose.yaml as files, each once: ``python3 make_secrets.py [FOLDER]``.

The folder may be opened by its owner alone. Files for gonogo belong to the user of its image (10001) and only that user
may read them; this needs root. Other images read theirs as users of their own, within their container. Existing files
are kept, so that running it again changes no password. It needs nothing but Python.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path

GONOGO_USER = 10001
MQTT_USER = "line"
_ROUNDS = 101


def main() -> None:
    """Write what is missing and say what was written."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    _write(folder / "postgres_password", secrets.token_urlsafe(24), own=False)
    password = (folder / "postgres_password").read_text().strip()
    _write(folder / "centre_url", f"postgresql://gonogo:{password}@postgres/gonogo", own=True)
    _write(folder / "station_token", secrets.token_urlsafe(32), own=True)
    name, key = secrets.token_hex(8), secrets.token_urlsafe(32)
    _write(folder / "s3_credentials", f"[default]\naws_access_key_id={name}\naws_secret_access_key={key}", own=True)
    # From the file, which may be an older one than the key above.
    lines = [line.partition("=")[2] for line in (folder / "s3_credentials").read_text().split()[1:]]
    may = {"name": "gonogo", "credentials": [{"accessKey": lines[0], "secretKey": lines[1]}], "actions": ["Admin"]}
    _write(folder / "s3_config", json.dumps({"identities": [may]}), own=False)
    _write(folder / "mqtt_password", secrets.token_urlsafe(24), own=True)
    _write(folder / "mqtt_passwords", _hashed((folder / "mqtt_password").read_text().strip()), own=False)
    if os.geteuid() != 0:
        _say(f"Not root: make them readable for the image with: sudo chown {GONOGO_USER} {folder}/*")


def _hashed(password: str) -> str:
    """Return a line of Mosquitto's password file: PBKDF2 with SHA-512, see mosquitto_passwd(1)."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"{MQTT_USER}:$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _write(path: Path, text: str, *, own: bool) -> None:
    """Create a file with its final rights; ``own``: for gonogo's user alone."""
    if path.exists():
        return
    mode = 0o600 if own else 0o444
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(f"{text}\n")
    path.chmod(mode)
    if own and os.geteuid() == 0:
        os.chown(path, GONOGO_USER, GONOGO_USER)
    _say(f"Wrote {path}")


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
