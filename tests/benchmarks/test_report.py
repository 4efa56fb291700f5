"""What a table says of a row, and that a record is read as it was written."""

import json
from pathlib import Path

import pytest

from benchmarks import bench, plot, report
from benchmarks.harness import Curve, Row

ROOT = Path(__file__).parents[2]
REACHED = Row(
    name="sampling", ours=2.0, peer=37.0, unit="s", spread=(18.0, 19.0), reach=17.0, memory=1234.5
)
MISSED = Row(
    name="step", ours=80.0, floor=40.0, ratio=0.5, against="floor", unit="ms", reach=0.75, note="!"
)
INFORMS = Row(name="waiting", ours=1.25, unit="%")
ROWS = [REACHED, MISSED, INFORMS]
ABOUT = {
    "machine": {"processor": "P", "cores": 2, "units": ["avx2"], "memory GiB": 8},
    "versions": {"torch": "2.5"},
    "threads": 2,
    "minutes": 3.5,
    "floors": {"memory GB/s": 20.0},
    "curves": [],
}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.01234, "0.0123"), (1.0, "1"), (99.94, "99.9"), (1234.5, "1,234"), (0, "0")],
)
def test_numbers_have_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_cells_tell_what_is_compared_with_what() -> None:
    assert report.cells(REACHED) == (
        "sampling", "2 s", "37 s, the original", "18.5 (18 to 19)", "17", "yes", "-", "1,234 MiB",
    )  # fmt: skip
    assert report.cells(MISSED) == (
        "step", "80 ms", "floor", "0.5", "0.75", "no", "40 ms", "-",
    )  # fmt: skip
    assert report.cells(INFORMS) == ("waiting", "1.25 %", "-", "-", "-", "-", "-", "-")


def test_only_rows_with_a_line_are_counted() -> None:
    assert report.summary(ROWS) == "1 of 2 rows reach their line"


def test_a_page_has_a_line_for_each_row_and_a_remark_for_each_note() -> None:
    lines = report.page_table(ROWS).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| sampling", "| step", "| waiting"]
    assert lines[-1] == "- *step*: !"
    assert {line.count("|") for line in lines[:5]} == {len(report.HEADINGS) + 1}


def test_a_bar_in_a_name_does_not_break_the_table() -> None:
    line = report.page_table([Row(name="a|b", ours=1.0, unit="s")]).splitlines()[2]
    assert line.startswith(r"| a\|b |")


def test_the_terminal_shows_every_row() -> None:
    assert report.terminal_table(ROWS).row_count == 3


def test_rewriting_changes_what_is_between_the_markers_alone() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.rewrite(page, "new")
    assert once == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert report.rewrite(once, "new") == once


@pytest.mark.parametrize("page", ["", report.BEGIN, report.END, f"{report.END} {report.BEGIN}"])
def test_a_page_without_both_markers_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match="the page needs"):
        report.rewrite(page, "new")


def test_rows_are_read_as_they_were_written() -> None:
    content = json.loads(json.dumps(report.to_json(ROWS, **ABOUT)))
    assert report.from_json(content) == ROWS
    assert [row["met"] for row in content["rows"]] == [True, False, None]


def test_the_setting_names_processor_threads_and_floors() -> None:
    text = report.setting(report.to_json([], **ABOUT))
    assert text.startswith("P, 2 threads (avx2), 8 GiB; torch 2.5; memory GB/s 20;")


def test_curves_of_the_same_work_share_a_panel() -> None:
    curves = [
        Curve(work, "px", side, [64], [1.0])
        for side in ("ours", "theirs")
        for work in ("decoding", "encoding")
    ]
    grouped = plot.panels(curves)
    assert list(grouped) == [("decoding", "px"), ("encoding", "px")]
    assert [curve.side for curve in grouped["decoding", "px"]] == ["ours", "theirs"]


def test_a_record_is_a_file_a_figure_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LATEST", "PAGE", "FIGURE"):
        monkeypatch.setattr(bench, name, tmp_path / getattr(bench, name).name)
    bench.PAGE.write_text(f"{report.BEGIN}\n{report.END}", "utf-8")
    curve = Curve("decoding", "picture, px", "ours", [64, 128], [0.1, 0.4])
    bench.record(report.to_json(ROWS, **{**ABOUT, "curves": [curve._asdict()]}))
    assert report.from_json(json.loads(bench.LATEST.read_text("utf-8"))) == ROWS
    assert "| sampling | 2 s |" in bench.PAGE.read_text("utf-8")
    assert bench.FIGURE.read_bytes()[1:4] == b"PNG"


@pytest.mark.skipif(not bench.LATEST.exists(), reason="nothing is recorded")
def test_the_committed_page_shows_the_committed_record() -> None:
    content = json.loads(bench.LATEST.read_text("utf-8"))
    table = report.page_table(report.from_json(content))
    assert f"{report.setting(content)}\n\n{table}" in bench.PAGE.read_text("utf-8")


def test_modules_of_rows_are_chosen_by_name() -> None:
    assert bench.parse(["--only", "decode", "--quick"]).only == ["decode"]
    with pytest.raises(SystemExit):
        bench.parse(["--only", "nothing"])
