"""Secrets of a config: in files that only their owner can read, masked in all that is kept for people.

A child reads its secrets from the config in its run's folder. Beside it run.json and batch.json hold masked values;
`restore_secrets` puts the real ones back where a run is started again.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prep.errors import ConfigError
from prep.secrets import holds_secret, list_secrets, mask_text, mask_values
from prep.storage.atomic import write_text
from prep.storage.bounded import read_bounded
from prep.storage.os_errors import explain_os_error

SECRETS_FILE = "secrets.json"


def find_secret_keys(values: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values are secrets or hold one somewhere inside."""
    return [key for key, value in values.items() if holds_secret(value, str(key))]


def split_secrets(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a config as it may be shown, and the real values of the keys that are masked in it."""
    return mask_values(values), {key: values[key] for key in find_secret_keys(values)}


def restore_secrets(shown: Mapping[str, Any], real: Mapping[str, Any]) -> dict[str, Any]:
    """Return masked values with the secrets of `real` put back; what was changed since stays as it is."""
    return {
        key: real[key] if key in real and value == mask_values({key: real[key]})[key] else value
        for key, value in shown.items()
    }


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read, not for a moment; it replaces another one whole.

    Raises: OutputError when it cannot be written.
    """
    with explain_os_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made with the mode 0600, under a name that did not exist.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        partial = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_config_text(path: Path, text: str, values: Mapping[str, Any]) -> None:
    """Write a config's text: for its owner alone when it, or a comment in it, holds a secret."""
    if holds_secret(values) or mask_text(text) != text:
        write_private(path, text)
    else:
        write_text(path, text)


def open_private_log(log: Path, config: Path) -> None:
    """Make a run's empty log its owner's alone when its config is: a child may print what it was given."""
    with suppress(FileNotFoundError):
        if os.name != "nt" and config.stat().st_mode & 0o077 == 0 and not log.exists():
            write_private(log, "")


@contextmanager
def private_config(values: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a config's file, for its owner alone and gone at the end, for a child whose arguments all can see."""
    from launch.configs.config import format_config

    with tempfile.TemporaryDirectory(prefix="lfc-") as folder:
        path = Path(folder, "config.yaml")
        write_private(path, format_config(values, header="For one command, and gone with it"))
        yield path


def write_secrets(folder: Path, secrets: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the secrets of a batch's runs, by run, for its owner alone; without any no file is made."""
    if any(secrets.values()):
        write_private(folder / SECRETS_FILE, json.dumps(secrets))


def read_secrets(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `write_secrets` kept; raises ConfigError when it cannot be read."""
    path = folder / SECRETS_FILE
    try:
        secrets: dict[str, dict[str, Any]] = json.loads(read_bounded(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="only who began the batch can") from error
    if not isinstance(secrets, dict) or not all(isinstance(values, dict) for values in secrets.values()):
        raise ConfigError(f"{path} does not hold the secrets of runs by their names", hint="begin the batch anew")
    return secrets


def read_known_secrets(config: Path) -> set[str]:
    """Return the secret texts of a config's file and of this process's variables, to be masked in what is shown.

    A config that is missing, broken or another user's adds none.
    """
    from launch.configs.config import read_config

    secrets = set(list_secrets(dict(os.environ)))
    with suppress(ConfigError, OSError):
        secrets |= set(list_secrets(read_config(config)))
    return secrets
