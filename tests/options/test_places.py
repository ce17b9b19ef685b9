"""What flags name as places."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import InputError
from headrace.options import parse_mapping
from headrace.options.parse import known_flags
from headrace.options.places import PLACES
from headrace.stream.source import resolve


@pytest.mark.parametrize("place", ["x" * 5_000, "x" * 256, "a/" * 2_100, "https://host/" + "x" * 5_000])
def test_a_place_longer_than_any_file_system_takes_is_refused(place: str) -> None:
    for name in ("dataset_name", "model_name_or_path", "manifest", "output_dir"):
        with pytest.raises(InputError, match=f"--{name} has [0-9,]+ bytes") as found:
            parse_mapping({name: place})
        assert len(found.value.message) < 200
    assert parse_mapping({"dataset_name": "https://host/" + "x" * 300}).given == {"dataset_name"}


def test_places_are_flags() -> None:
    assert set(PLACES) <= {*known_flags(), "config"}


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"File name too long"):
        resolve(str(tmp_path / ("x" * 256)))
