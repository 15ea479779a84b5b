"""Damaged and hostile files: whatever the bytes, the readers return a value or say `ValueError`."""

import json
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from planted import bank, direction, trajectories

from directions import load_direction, open_bank, save_direction


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a whole direction and of a whole shard, and a folder to damage them in."""
    folder = tmp_path_factory.mktemp("hostile")
    save_direction(direction(), folder / "d.safetensors")
    shard = bank(folder / "bank", trajectories(2)[0]).shards[0].path
    contents = (folder / "d.safetensors").read_bytes(), shard.read_bytes()
    shard.unlink()
    return folder, *contents


def read(folder, direction_bytes=None, shard_bytes=None):
    if direction_bytes is not None:
        (folder / "d.safetensors").write_bytes(direction_bytes)
        load_direction(folder / "d.safetensors")
    if shard_bytes is not None:
        (folder / "bank" / "seed.safetensors").write_bytes(shard_bytes)
        open_bank(folder / "bank")


changes = st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=8)
inputs = int(os.environ.get("FUZZ_INPUTS", "400")) // 4
few = settings(max_examples=inputs, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@given(changes=changes, keep=st.integers(0, 4000) | st.none())
@few
def test_damaged_bytes_are_refused_or_read(whole, changes, keep):
    folder, *contents = whole
    for name, content in zip(("direction_bytes", "shard_bytes"), contents, strict=True):
        damaged = bytearray(content)
        for position, value in changes:
            damaged[position] = value
        try:
            read(folder, **{name: bytes(damaged[:keep])})
        except ValueError as error:
            assert len(str(error)) > 20  # a sentence


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(field=st.sampled_from(["format_version", "source", "recipe", None]), value=values)
@example(field="source", value={"family": 1, "image_size": 7})
@example(field=None, value=[])
@few
def test_any_metadata_in_a_shard_is_refused_or_read(whole, field, value):
    folder, _, content = whole
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["hspace-bank"])
    about = value if field is None else {**about, field: value}
    header["__metadata__"]["hspace-bank"] = json.dumps(about)
    encoded = json.dumps(header).encode()
    try:
        read(folder, shard_bytes=len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])
    except ValueError as error:
        assert len(str(error)) > 20
