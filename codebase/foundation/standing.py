"""How what we depend on does its work, told to the log once per change and not once per request."""

from __future__ import annotations

from codebase.foundation.observability import logs


class Standing:
    """Whether a kind of work of a dependency succeeds, as far as was seen last.

    Shared by everybody in a process who asks for that work, so that a change is told once.

    Args:
        dependency: such as `write_model`.
        work: what is asked of it, such as `append`.
    """

    def __init__(self, dependency: str, work: str) -> None:
        self._dependency = dependency
        self._work = work
        self.problem: str | None = None
        """What is wrong, as the end of a sentence; None: nothing that is known."""

    def failed(self, problem: str, cause: BaseException | None = None) -> None:
        """It did not do the work; `problem` is for everybody's eyes, `cause` for the log."""
        if problem == self.problem:
            return
        self.problem = problem
        logs.warning(
            "dependency_failed",
            dependency=self._dependency,
            work=self._work,
            problem=problem,
            cause=type(cause).__name__ if cause else None,
            sqlstate=getattr(cause, "sqlstate", None),
        )

    def succeeded(self) -> None:
        """It did."""
        if self.problem is not None:
            self.problem = None
            logs.info("dependency_recovered", dependency=self._dependency, work=self._work)
