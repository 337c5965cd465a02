"""What a step is told while it runs: its log, the wish to stop, its inputs."""

from __future__ import annotations

import pickle
import sys
import threading
from types import MappingProxyType
from typing import Any

import pytest

from oautom import Context, SettingError
from oautom.events.texts import LogBuffer
from tests.held import Call


def context(**settings: Any) -> Context:
    return Context("f", "v", "a", 2, MappingProxyType({"day": 1}), **settings)


def test_a_context_says_where_it_stands() -> None:
    here = context()

    assert (here.flow, here.vect_id, here.step, here.attempt) == ("f", "v", "a", 2)
    assert (here.params, here.output, here.inputs) == ({"day": 1}, None, {})


def test_the_log_is_a_standard_logger_whose_lines_are_kept() -> None:
    here = context()

    here.log.debug("even %s", "details")
    here.log.warning("careful")

    assert here.buffer.text() == "DEBUG even details\nWARNING careful\n"
    assert here.log is here.log


def test_the_log_shows_an_exception_with_its_traceback() -> None:
    here = context()
    try:
        int("mine")
    except ValueError:
        here.log.exception("it broke")

    text = here.buffer.text()
    assert text.startswith("ERROR it broke\nTraceback")
    assert text.endswith("ValueError: invalid literal for int() with base 10: 'mine'\n")


def test_a_line_that_cannot_be_encoded_is_written_all_the_same() -> None:
    here = context()

    here.log.info("lone \ud800 surrogate")

    assert here.buffer.text() == "INFO lone ? surrogate\n"


def test_a_wrong_call_of_the_log_does_not_fail_the_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The standard handlers tell such a mistake to standard error, and never to the caller.
    context().log.info("%d rows", "many")

    assert "many" in capsys.readouterr().err


def test_each_attempt_has_a_buffer_of_its_own_made_when_it_writes() -> None:
    buffers: dict[tuple[str, int], LogBuffer] = {}
    contexts = [Context("f", "v", "a", number, {}, buffers=buffers) for number in (1, 2, -1, 3)]
    assert [each.written for each in contexts] == [None] * 4
    for each in contexts[:3]:
        each.log.info("attempt %d", each.attempt)

    assert {key: buffer.text() for key, buffer in buffers.items()} == {
        ("a", 1): "INFO attempt 1\n",
        ("a", 2): "INFO attempt 2\n",
        ("a", -1): "INFO attempt 1\n",
    }


def test_the_buffer_keeps_to_its_limit() -> None:
    here = context(log_limit_bytes=10)
    here.buffer.write(b"0123456789abcdef")

    assert here.buffer.text() == "6789abcdef"


def test_progress_is_a_line_of_the_log() -> None:
    here = context()

    here.progress(0)
    here.progress(0.5, "half of the rows")
    here.progress(1, "done")

    assert here.buffer.text() == "INFO   0 % \nINFO  50 % half of the rows\nINFO 100 % done\n"


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), "half", None])
def test_a_progress_that_is_no_number_from_0_to_1_is_refused(fraction) -> None:
    with pytest.raises(SettingError) as caught:
        context().progress(fraction)

    assert str(caught.value) == (
        f"step 'a' reports a progress of {fraction!r}; give a number from 0 to 1"
    )
    assert (caught.value.flow, caught.value.step) == ("f", "a")


def test_cancelled_is_set_for_whoever_asked_before() -> None:
    here = context()
    event = here.cancelled
    assert isinstance(event, threading.Event)
    assert not event.is_set()

    here.mark_cancelled()

    assert event.is_set()
    assert here.cancelled is event


def test_cancelled_is_set_for_whoever_asks_after() -> None:
    here = context()
    here.mark_cancelled()

    assert here.cancelled.is_set()


def test_a_stopper_is_called_by_the_cancel_and_is_a_promise() -> None:
    here, called = context(), []
    assert here.on_cancel(lambda: called.append("first")) is True
    assert here.on_cancel(lambda: called.append("second")) is True
    assert called == []

    assert here.mark_cancelled() is True

    assert called == ["first", "second"]


def test_a_stopper_is_called_once_and_stays_a_promise() -> None:
    """As when Ctrl-C tells an inline step, and the cancel of its Vect does so again."""
    here, called = context(), []
    here.on_cancel(lambda: called.append("stop"))

    assert [here.mark_cancelled() for _ in range(3)] == [True] * 3
    assert called == ["stop"]


def test_without_a_stopper_nobody_has_promised_to_end() -> None:
    assert context().mark_cancelled() is False


def test_a_stopper_that_comes_too_late_is_not_kept() -> None:
    here, called = context(), []
    here.mark_cancelled()

    assert here.on_cancel(lambda: called.append("late")) is False

    here.mark_cancelled()
    assert called == []


def test_a_stopper_may_ask_the_context() -> None:
    here, seen = context(), []
    here.on_cancel(lambda: seen.append((here.cancelled.is_set(), here.buffer.text())))

    here.mark_cancelled()

    assert seen == [(True, "")]


def test_inputs_are_asked_for_when_they_are_wanted() -> None:
    asked = []

    def inputs() -> dict[str, Any]:
        asked.append("now")
        return {"up": 1}

    here = context(inputs=inputs)
    assert asked == []
    assert here.inputs == {"up": 1}


def test_a_context_travels_by_value() -> None:
    here = context(inputs=lambda: {"up": [1]}, log_limit_bytes=5)
    here.output = "of run"
    here.cancelled.set()
    here.on_cancel(lambda: None)
    here.log.info("stays here")

    there = pickle.loads(pickle.dumps(here))

    assert (there.flow, there.vect_id, there.step, there.attempt) == ("f", "v", "a", 2)
    assert (there.params, there.inputs, there.output) == ({"day": 1}, {"up": [1]}, "of run")
    assert there.buffer.text() == ""
    assert not there.cancelled.is_set()
    there.buffer.write(b"0123456789")
    assert there.buffer.text() == "56789"


def test_a_stopper_may_raise_anything_and_the_others_are_called_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unshown:
        def __call__(self) -> None:
            raise KeyboardInterrupt

        def __repr__(self) -> str:
            raise SystemExit

    here, told = context(), []
    for stopper in (sys.exit, Unshown(), lambda: told.append("told")):
        here.on_cancel(stopper)

    assert here.mark_cancelled()

    assert told == ["told"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "SystemExit" in caplog.text


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(SettingError, match="on_cancel\\(\\) takes a callable, not 3"):
        context().on_cancel(3)  # type: ignore[arg-type]


def test_a_step_that_has_the_lock_of_its_event_writes_while_it_is_cancelled() -> None:
    """As where a handler of a signal interrupts `cancelled.wait()`, and prints."""
    here, other = context(), context()
    event = here.cancelled
    with event._cond:  # type: ignore[attr-defined]
        cancel = Call(here.mark_cancelled)
        assert cancel.waits()
        for each in (here, other):
            write = Call(lambda each=each: each.buffer.write(b"still here"))
            write.result()
    assert cancel.result() is False
    assert event.is_set()
