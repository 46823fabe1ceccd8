"""What a break is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    promise: str
    #: What the broken line no longer does.
    what: str
    file: str
    old: str
    new: str
    test: str

    def __str__(self) -> str:
        return f"{self.promise} {self.what} ({self.file} {self.test})"
