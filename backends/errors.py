"""What a user did that cannot work; shown as plain lines, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """One or more problems, each a line: what, where, what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
