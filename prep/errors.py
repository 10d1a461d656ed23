"""Every fault a user can fix; imports nothing, so that any module may raise one."""


class UserError(Exception):
    """A fault that the user can fix: what was seen and where, and the next step.

    `hint` is printed on a line of its own as `Try: …`; `exit_code` is the process's.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InputError(UserError):
    """A file that cannot be read, or is not of the shape that was asked for."""


class DownloadError(UserError):
    """A repository that cannot be downloaded, or an answer of the hub that cannot be trusted."""


class UnreachableHubError(DownloadError):
    """A hub that could not be asked: whether it has what was wanted is not known."""


class InterruptedDownloadError(DownloadError):
    """Ctrl-C or SIGTERM came while downloading; `exit_code` is 128 and the signal's number."""

    def __init__(self, message: str, *, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class RecordError(UserError):
    """One row that cannot be used; the message is the reason alone, the caller adds file and row."""


class RejectsError(UserError):
    """More rows were rejected than --max-rejects allows; nothing was written but the rejects file."""


class OutputError(UserError):
    """A file or folder that cannot be written, or that would be overwritten."""


class RegistryError(UserError):
    """A dataset_info.json that is broken, or a dataset name that is taken or unknown."""


class ConfigError(UserError):
    """A preset or YAML config that is missing, malformed or cannot work."""


class StackError(UserError):
    """LLaMA-Factory is not installed here, or is not the one that is needed."""


class ChildFailedError(UserError):
    """A child process failed; `exit_code` is the child's own."""

    def __init__(self, message: str, *, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class StoppedError(UserError):
    """A signal other than Ctrl-C asked this process to end; `exit_code` is 128 + the signal's number."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"stopped by {name}")
        self.exit_code = 128 + number
