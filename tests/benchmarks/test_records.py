"""Result files and the README's tables made from them."""

import json
from pathlib import Path

import pytest

from benchmarks.records import Record, conditions_line, fill_markers, read_record, rounds_text, summary, table, write_record

PAGE = "before\n<!-- benchmark speed -->\nold\n<!-- end benchmark -->\nafter\n"


def speed_table(record: Record) -> str:
    return f"{record['seconds']} s"


def test_a_record_holds_its_conditions_and_reads_back(tmp_path: Path) -> None:
    path = write_record(tmp_path, "speed", {"seconds": 2.5})
    record = read_record(tmp_path, "speed")
    assert record == json.loads(path.read_text())
    assert record is not None
    assert record["seconds"] == 2.5
    assert {"machine", "versions", "commit", "date"} <= set(record)
    assert record["versions"]["python"] in conditions_line(record)
    assert read_record(tmp_path, "other") is None


@pytest.mark.parametrize(
    ("records", "expected"),
    [({"speed": {"seconds": 2.5}}, "2.5 s"), ({}, "Not measured yet: `python -m benchmarks speed`.")],
)
def test_markers_are_filled_and_the_rest_stays(records: dict[str, Record], expected: str) -> None:
    filled = fill_markers(PAGE, {"speed": speed_table}, records)
    assert filled == PAGE.replace("old", expected)
    assert fill_markers(filled, {"speed": speed_table}, records) == filled


@pytest.mark.parametrize(("left", "expected"), [((7, 7), "7 alternating"), ((7, 3), "3 to 7 undisturbed of 7 alternating")])
def test_rounds_are_told_with_what_disturbed_them(left: tuple[int, int], expected: str) -> None:
    contenders = {str(number): {"undisturbed": count} for number, count in enumerate(left)}
    assert rounds_text({"parameters": {"rounds": 7}, "contenders": contenders}) == expected


def test_unknown_markers_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'speed', expected one of cold_start"):
        fill_markers(PAGE, {"cold_start": speed_table}, {})


def test_summary_and_table() -> None:
    assert summary([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0}
    assert table(["", "s"], [["ours", "1"]]) == "|  | s |\n| --- | ---: |\n| ours | 1 |"
