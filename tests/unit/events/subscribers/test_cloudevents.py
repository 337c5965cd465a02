"""CloudEvents: a line for each event, as the specification has it, whatever the event holds."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom import Event, SettingError
from oautom.events.jsonl import from_line
from oautom.events.subscribers import CloudEventsWriter
from tests.kit import created, started, step_failed, step_succeeded


def written(event: Event, source: str = "/here") -> dict[str, Any]:
    out = io.StringIO()
    CloudEventsWriter(out, source=source)(None, event=event)
    text = out.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return json.loads(text)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


def seqs_of(path: Path) -> list[int]:
    """The numbers of the events of a file, without the lines that are no JSON."""
    seqs = []
    for line in lines_of(path):
        try:
            seqs.append(json.loads(line)["data"]["seq"])
        except ValueError:
            continue
    return seqs


# What a line holds


def test_a_line_has_the_attributes_of_the_specification() -> None:
    assert written(step_failed(3, "load"), "https://example.org/etl") == {
        "specversion": "1.0",
        "id": "3-1795521603000000-v",
        "source": "https://example.org/etl",
        "type": "oautom.step.failed",
        "subject": "f/v/load",
        "time": "2026-11-24T12:00:03.000000Z",
        "datacontenttype": "application/json",
        "data": {
            "seq": 3,
            "time": "2026-11-24T12:00:03+00:00",
            "flow": "f",
            "vect": "v",
            "step": "load",
            "attempt": 1,
            "name": "step.failed",
            "source": "running",
            "dest": "failed",
            "data": {"error": "it broke"},
        },
    }


def test_an_event_of_a_vect_has_no_step_in_its_subject() -> None:
    assert written(started(2))["subject"] == "f/v"


@pytest.mark.parametrize("name", ["a/b", "é 漢", "100%", "a\nb", '"', "?#&", "a\x7fb", "."])
def test_names_are_percent_encoded_in_the_subject(name: str) -> None:
    event = msgspec.structs.replace(step_failed(1, name), flow=name, vect=name)
    line = written(event)

    assert re.fullmatch(r"[\w.~%-]+/[\w.~%-]+/[\w.~%-]+", line["subject"], re.ASCII)
    assert [unquote(part) for part in line["subject"].split("/")] == [name] * 3
    assert line["id"].isprintable()


def test_time_is_in_utc_wherever_the_clock_is() -> None:
    paris = timezone(timedelta(hours=1))
    event = msgspec.structs.replace(
        started(2), time=datetime(2026, 11, 24, 0, 30, 0, 5, tzinfo=paris)
    )

    assert written(event)["time"] == "2026-11-23T23:30:00.000005Z"


def test_an_event_that_is_written_again_has_the_same_id_and_any_other_another() -> None:
    event = started(2)
    others = [
        started(3),
        started(2, vect="w"),
        msgspec.structs.replace(event, time=event.time + timedelta(microseconds=1)),
    ]

    assert written(event)["id"] == written(event)["id"]
    assert len({written(each)["id"] for each in [event, *others]}) == 4


@pytest.mark.parametrize(
    "event",
    [
        created(1, {"a": (), "b": ("a",)}),
        started(2),
        step_failed(3, "a"),
        step_succeeded(4, "a", {"rows": [1, None, 1.5, "é\n"]}),
    ],
    ids=lambda event: event.name,
)
def test_the_event_can_be_had_back(event: Event) -> None:
    assert from_line(json.dumps(written(event)["data"])) == event


# Values that JSON cannot keep


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no")


class Odd:
    def __repr__(self) -> str:
        return "\ud800"


holds_itself: list[Any] = [1]
holds_itself.append(holds_itself)
deep: list[Any] = []
for _ in range(5000):
    deep = [deep]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ((1, 2), "(1, 2)"),
        ({"a": {1}, "b": [b"x", 1]}, {"a": "{1}", "b": ["b'x'", 1]}),
        (float("nan"), "nan"),
        ([float("inf")], ["inf"]),
        (Path("/x"), repr(Path("/x"))),
        ({1: 2}, "{1: 2}"),
        ({"\ud800": 2}, "{'\\ud800': 2}"),
        (["\ud800"], ["'\\ud800'"]),
        (Unprintable(), "(its repr() raises ValueError)"),
        (Odd(), "\\ud800"),
        ("x" * 5000, "x" * 5000),
        (("x" * 5000,), "('" + "x" * 998 + "..."),
        (datetime(2026, 1, 2, tzinfo=UTC), repr(datetime(2026, 1, 2, tzinfo=UTC))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_keep_is_told_by_its_repr(output: Any, told: Any) -> None:
    data = written(step_succeeded(4, "a", output))["data"]

    assert (data["name"], data["data"]) == ("step.succeeded", {"output": told})


@pytest.mark.parametrize("output", [holds_itself, deep], ids=["holds itself", "deep"])
def test_a_value_that_has_no_end_does_not_lose_the_event(output: Any) -> None:
    line = written(step_succeeded(4, "a", output))

    assert line["data"]["seq"] == 4


def test_params_that_json_cannot_keep_do_not_lose_the_graph() -> None:
    event = msgspec.structs.replace(
        created(1, {"a": ()}),
        data=MappingProxyType(
            {
                "params": MappingProxyType({"day": {1}, "n": 2}),
                "graph": MappingProxyType({"a": ()}),
            }
        ),
    )

    assert written(event)["data"]["data"] == {
        "params": {"day": "{1}", "n": 2},
        "graph": {"a": []},
    }


anything = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.builds(Unprintable)
    | st.builds(object),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.binary(), inner)
    ),
    max_leaves=8,
)


@given(output=anything)
def test_no_value_loses_an_event(output: Any) -> None:
    event = step_succeeded(4, "a", output)
    line = written(event)

    assert from_line(json.dumps(line["data"])).seq == 4
    out = io.StringIO()
    CloudEventsWriter(out, source="x")(None, event)
    assert json.loads(out.getvalue()) == {**line, "source": "x"}


# Files and streams


def test_a_file_is_appended_to_and_never_truncated(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for seq in (1, 2):
        with CloudEventsWriter(path, source="/x") as write:
            write(None, started(seq))
            assert seqs_of(path)[-1] == seq  # there at once

    assert seqs_of(path) == [1, 2]
    assert lines_of(path)[-1] == ""


@pytest.mark.parametrize("torn", ['{"specversion":"1.', "{", '{"data":{"seq":9}}'])
def test_a_line_that_a_crash_has_torn_is_left_behind(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"data":{"seq":8}}\n' + torn)
    for seq in (9, 10):
        with CloudEventsWriter(str(path), source="/x") as write:
            write(None, started(seq))

    lines = lines_of(path)
    assert lines[1] == torn
    assert len(lines) == 5
    assert seqs_of(path) == [8, *([9] if torn.endswith("}}") else []), 9, 10]


def test_a_write_that_fails_halfway_is_repaired_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    write = CloudEventsWriter(path, source="/x")
    file = write._out._file  # type: ignore[union-attr]

    class Full:
        left = 20

        def write(self, data: memoryview) -> int:
            if not self.left:
                raise OSError("no space left on device")
            count, self.left = min(len(data), self.left), 0
            return file.write(data[:count])

    monkeypatch.setattr(write._out, "_file", Full())
    for _ in range(3):
        with pytest.raises(OSError, match="no space left"):
            write(None, started(1))
    monkeypatch.setattr(write._out, "_file", file)
    write(None, started(1))
    write(None, started(2))
    write.close()

    assert seqs_of(path) == [1, 2]
    assert len(lines_of(path)) == 4  # with the torn one, and nothing after the last


def test_a_disk_that_is_full_from_the_start_leaves_no_empty_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write = CloudEventsWriter(path, source="/x")
    file = write._out._file  # type: ignore[union-attr]

    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError("no space left on device")

    write._out._file = Full()  # type: ignore[union-attr, assignment]
    with pytest.raises(OSError, match="no space left"):
        write(None, started(1))
    write._out._file = file  # type: ignore[union-attr]
    write(None, started(1))
    write.close()

    assert len(lines_of(path)) == 2


def test_a_pipe_will_do(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    with CloudEventsWriter(path, source="/x") as write:
        write(None, started(1))
    reader.join(10)

    assert json.loads(read[0])["type"] == "oautom.vect.started"


def test_a_stream_is_flushed_and_stays_open() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=False)
    with CloudEventsWriter(stream, source="/x") as write:
        write(None, step_failed(1, "é"))

    assert json.loads(raw.getvalue())["data"]["step"] == "é"
    assert not stream.closed


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with CloudEventsWriter(path, source="/x") as write:

        def write_many(first: int) -> None:
            for seq in range(first, first + 100):
                write(None, step_failed(seq, "a" * seq))

        threads = [threading.Thread(target=write_many, args=(n * 100 + 1,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(json.loads(line)["data"]["seq"] for line in lines_of(path)[:-1]) == list(
        range(1, 401)
    )


def test_a_closed_writer_writes_no_more_and_can_be_closed_again(tmp_path: Path) -> None:
    write = CloudEventsWriter(tmp_path / "x", source="/x")
    write.close()
    write.close()

    with pytest.raises(ValueError, match="closed file"):
        write(None, started(1))


# What is refused


@pytest.mark.parametrize(
    "source", ["", " ", "a b", "é", "a\nb", "%", "%zz", "<x>", "a|b", None, 3, b"x"]
)
def test_a_source_that_is_no_uri_reference_is_refused(source: Any) -> None:
    with pytest.raises(SettingError, match=r"source must be a URI reference, as .*, not "):
        CloudEventsWriter(io.StringIO(), source=source)


@pytest.mark.parametrize(
    "source",
    [
        "x",
        "/",
        "https://example.org/a?b=c#d",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "mailto:cncf@example.org",
        "../x%20y",
        "http://[::1]:80/",
    ],
)
def test_a_source_that_is_one_is_taken_as_it_is(source: str) -> None:
    assert written(started(2), source)["source"] == source


@pytest.mark.parametrize("to", [None, 3, io.BytesIO(), b"x"], ids=lambda to: type(to).__name__)
def test_what_is_neither_a_path_nor_a_stream_of_text_is_refused(to: Any) -> None:
    with pytest.raises(SettingError, match="to must be a path or an open stream of text, not "):
        CloudEventsWriter(to, source="/x")


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CloudEventsWriter(tmp_path / "missing" / "events.jsonl", source="/x")
