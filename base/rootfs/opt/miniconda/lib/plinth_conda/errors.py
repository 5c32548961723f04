"""What ends the command, with its exit code."""

UNSATISFIABLE = 98
"""As in the original images, where a conda file could not be satisfied."""


class CondaError(Exception):
    """One line for people, lines with details, and the exit code."""

    def __init__(self, what, details=(), code=1):
        super().__init__(what)
        self.details = tuple(details)
        self.code = code
