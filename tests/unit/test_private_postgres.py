"""How much of a machine one of our database servers takes."""

from __future__ import annotations

import pytest

from codebase.embedded.private_postgres import buffers_megabytes

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "megabytes"),
    [(GIB // 2, 128), (2 * GIB, 128), (4 * GIB, 256), (8 * GIB, 512), (24 * GIB, 1024)],
)
def test_pages_are_kept_in_a_sixteenth_of_the_memory_within_bounds(
    memory: int, megabytes: int
) -> None:
    assert buffers_megabytes(memory) == megabytes
