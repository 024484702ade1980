"""`orderly rebuild`: compute a projection's tables again while the old ones serve."""

from codebase.operations.rebuild.errors import RebuildError
from codebase.operations.rebuild.run import Report, rebuild

__all__ = ["RebuildError", "Report", "rebuild"]
