"""The one door to files on the disk: atomic writes, locks, hashes, manifests, and what a system's fault means."""

from prep.storage.atomic import (
    AtomicFile,
    encode_json,
    open_atomic,
    refuse_existing,
    refuse_no_file,
    stage_file,
    write_json,
    write_text,
)
from prep.storage.fingerprints import Fingerprint, hash_file
from prep.storage.locks import is_locked, lock_file, refuse_obstacle, try_lock, working_folder
from prep.storage.manifests import (
    DOWNLOAD_MANIFEST_NAME,
    Manifest,
    describe_input,
    describe_making,
    find_download_manifest,
    manifest_path,
    read_manifest,
    stage_manifest,
    write_manifest,
)
from prep.storage.os_errors import describe_os_error, explain_os_error, explain_read_error

__all__ = [
    "DOWNLOAD_MANIFEST_NAME",
    "AtomicFile",
    "Fingerprint",
    "Manifest",
    "describe_input",
    "describe_making",
    "describe_os_error",
    "encode_json",
    "explain_os_error",
    "explain_read_error",
    "find_download_manifest",
    "hash_file",
    "is_locked",
    "lock_file",
    "manifest_path",
    "open_atomic",
    "read_manifest",
    "refuse_existing",
    "refuse_no_file",
    "refuse_obstacle",
    "stage_file",
    "stage_manifest",
    "try_lock",
    "working_folder",
    "write_json",
    "write_manifest",
    "write_text",
]
