"""What a child may use, as the user says it."""

from __future__ import annotations

from dataclasses import dataclass

from sandboxq.errors import MechanismMissing, UsageError

NAMES = ("none", "limits", "strict")

# High enough that honest work never meets it; low enough that a leak of files ends as an error.
FILES = 4096
# One file of this size is a mistake more often than a result.
FILE_SIZE = 16 << 30


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of one child. Sizes are bytes; ``memory`` None is a fair share of the machine.

    Raises:
        UsageError: the name or a value makes no sense.
        MechanismMissing: the policy cannot be enforced.
    """

    name: str = "limits"
    memory: int | None = None
    files: int = FILES
    file_size: int = FILE_SIZE

    def __post_init__(self) -> None:
        """Refuse what cannot be enforced; nothing is ever silently weaker than its name."""
        if self.name not in NAMES:
            message = f"unknown policy {self.name!r}: use one of {', '.join(NAMES)}"
            raise UsageError(message)
        if self.name == "strict":
            message = "policy 'strict' is not available in this version: use 'limits' or 'none'"
            raise MechanismMissing(message)
        for setting, value in (("memory", self.memory), ("files", self.files)):
            if value is not None and value < 1:
                message = f"policy setting {setting} must be positive, not {value}"
                raise UsageError(message)
