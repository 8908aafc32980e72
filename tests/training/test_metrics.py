import math

from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.training.metrics import Meter, MetricsFile, TensorBoard, read_metrics


def test_columns_grow_and_absent_values_are_blank(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append({"step": 2, "train/loss": 0.5})
    file.append({"step": 2, "val/AP": float("nan"), "time/evaluation": 1.25})
    file.append({"step": 4, "train/loss": 0.25})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,train/loss,val/AP,time/evaluation",
        "2,0.5,,",
        "2,,nan,1.25",
        "4,0.25,,",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "metrics.csv"]


def test_a_continued_run_cuts_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    for step in (1, 2, 3):
        file.append({"step": step, "train/loss": 1 / 3 * step})
    file.append({"step": 3, "val/AP": 0.1})
    whole = path.read_bytes()
    path.write_bytes(whole + b"4,0.3")  # killed in the middle of a row
    again = MetricsFile(path, keep=2)
    assert path.read_text() == "step,train/loss\n1,0.3333333333333333\n2,0.6666666666666666\n"
    again.append({"step": 3, "train/loss": 1.0})
    again.append({"step": 3, "val/AP": 0.1})
    assert path.read_bytes() == whole


def test_a_row_cut_short_is_not_a_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,2\n2,3")
    assert read_metrics(path) == [{"step": 1.0, "a": 2.0}]
    assert read_metrics(tmp_path / "none.csv") == []


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_every_float_is_read_back_as_it_was(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("floats") / "metrics.csv"
    file = MetricsFile(path)
    for step, value in enumerate(values):
        file.append({"step": step, "x": value})
    assert [row["x"] for row in read_metrics(path)] == values


def test_the_meter_averages_and_its_state_can_be_taken_up_anywhere():
    values = [{"a": 0.1 * i, "b": 1.0} for i in range(7)]
    straight, first = Meter(), Meter()
    for value in values:
        straight.add(value)
    for value in values[:4]:
        first.add(value)
    second = Meter(first.state())
    for value in values[4:]:
        second.add(value)
    assert second.means() == straight.means()
    assert math.isclose(straight.means()["a"], 0.3)
    second.clear()
    assert second.means() == {}


def test_tensorboard_reads_the_events_and_forgets_what_was_purged(tmp_path):
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    first = TensorBoard(tmp_path)
    first.write({"step": 1, "train/loss": 0.5, "val/AP": float("nan")})
    first.close()
    second = TensorBoard(tmp_path, purge_step=2)
    second.write({"step": 2, "train/loss": 0.25})
    second.close()

    def events(path):  # each is its length, a checksum, itself, a checksum
        data, offset, found = path.read_bytes(), 0, []
        while offset < len(data):
            size = int.from_bytes(data[offset : offset + 8], "little")
            found.append(Event.FromString(data[offset + 12 : offset + 12 + size]))
            offset += 16 + size
        return found

    files = sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    found = [e for path in files for e in events(path)]
    scalars = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]
    assert scalars == [(1, "train/loss", 0.5), (2, "train/loss", 0.25)]
    assert [e.step for e in found if e.session_log.status == SessionLog.START] == [2]
