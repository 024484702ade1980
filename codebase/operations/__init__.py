"""What operators do: a module per command, and `command_line` and `terminal` that all share."""


class OperationError(Exception):
    """What an operator asked for cannot be done; the text says why, in a sentence for them."""
