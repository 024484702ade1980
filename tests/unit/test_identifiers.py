"""Identifiers: the same as the standard's, only made faster."""

from __future__ import annotations

from uuid import UUID, uuid4, uuid5

from hypothesis import given
from hypothesis import strategies as st

from codebase.engine.log.identifiers import (
    NAMESPACE,
    creation_stream_id,
    name_based,
    new_event_id,
    partition_of,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(client=TEXT, key=TEXT)
def test_the_stream_of_a_creation_is_a_uuid_of_version_5(client: str, key: str) -> None:
    name = f"{client}\nbuy_order\n{key}"
    assert creation_stream_id(client, "buy_order", key) == uuid5(NAMESPACE, name)


@given(namespace=st.uuids(), name=TEXT)
def test_names_of_effects_are_uuids_of_version_5(namespace: UUID, name: str) -> None:
    assert name_based(namespace, name) == uuid5(namespace, name)


def test_event_ids_are_uuids_of_version_7_in_order_of_time_and_never_the_same() -> None:
    ids = [new_event_id() for _ in range(1000)]
    parsed = [UUID(text) for text in ids]
    assert [str(one) for one in parsed] == ids
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid4().variant)}
    assert len(set(ids)) == len(ids)
    stamps = [one.int >> 80 for one in parsed]
    assert stamps == sorted(stamps)


def test_streams_spread_over_the_partitions() -> None:
    counts = [0, 0, 0, 0]
    for _ in range(4000):
        counts[partition_of(uuid4(), 4)] += 1
    assert min(counts) > 800
