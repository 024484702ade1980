"""`orderly log copy`: a log into another database; services stop for the switch only."""

from codebase.operations.log_copy.run import Copied, copy_log
from codebase.operations.log_copy.through import load_rewrite

__all__ = ["Copied", "copy_log", "load_rewrite"]
