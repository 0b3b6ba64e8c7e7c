"""Dates with a zone are read and written as the clock shows them that wrote the file; pandas says what comes next."""

import numpy as np
import pandas as pd
import pytest

from rnnjax.cli.blocks import joined, written_dates
from rnnjax.cli.errors import BadInput
from rnnjax.cli.series import read_sheet
from rnnjax.cli.settings import Settings
from rnnjax.data.dates import Step, following, seconds, span_of
from rnnjax.data.errors import DataError
from rnnjax.forecast.long import times_of

ROWS, AHEAD = 40, 3
FILES = {
    # start, frequency, zone; how the dates to come are written: with pandas' own zone, in UTC, or without one
    "no zone": ("2024-03-25", "h", None, "%Y-%m-%d %H:%M:%S"),
    "one zone": ("2024-03-25", "h", "Asia/Kolkata", "%Y-%m-%d %H:%M:%S+05:30"),
    "west of Greenwich": ("2024-03-25", "15min", "America/St_Johns", "%Y-%m-%d %H:%M:%S-02:30"),
    "winter alone": ("2024-01-25", "h", "Europe/Berlin", "%Y-%m-%d %H:%M:%S+01:00"),
    "hours, winter and summer": ("2024-03-30", "h", "Europe/Berlin", "UTC"),
    "hours, summer and winter": ("2024-10-26", "h", "Europe/Berlin", "UTC"),
    "days, winter and summer": ("2024-03-25", "D", "Europe/Berlin", "%Y-%m-%d"),
    "months, winter and summer": ("2021-01-01", "MS", "America/New_York", "%Y-%m-%d"),
    "milliseconds": ("2024-03-25", "10ms", "UTC", "milliseconds"),
}


def sheet_of(path, dates, before=None):
    """The sheet of a file with these dates, as a run reads it."""
    path.write_text("ds,y\n" + "".join(f"{date},{i}.5\n" for i, date in enumerate(dates)), encoding="utf-8")
    return read_sheet(Settings(data=str(path), horizon=AHEAD), str(path), before)


@pytest.mark.parametrize("name", FILES)
def test_what_comes_next_is_written_with_its_zone(name, tmp_path):
    start, step, zone, form = FILES[name]
    dates = pd.date_range(start, periods=ROWS + AHEAD, freq=step, tz=zone)
    sheet = sheet_of(tmp_path / "t.csv", dates[:ROWS])
    want = dates[ROWS:]
    if form == "UTC":
        expected = [f"{date:%Y-%m-%d %H:%M:%S}+00:00" for date in want.tz_convert("UTC")]
    elif form == "milliseconds":
        expected = [f"{date:%Y-%m-%d %H:%M:%S}.{date.microsecond // 1000:03}+00:00" for date in want]
    else:
        expected = want.strftime(form).tolist()
    assert written_dates(sheet.ahead(sheet.blocks[0], AHEAD), sheet.zone) == expected


@pytest.mark.parametrize("name", FILES)
def test_newer_rows_follow_on_however_they_write_their_zone(name, tmp_path):
    start, step, zone, _ = FILES[name]
    dates = pd.date_range(start, periods=ROWS + 8, freq=step, tz=zone)
    before = sheet_of(tmp_path / "t.csv", dates[:ROWS])
    ways = [dates[ROWS - 2 :]]
    if zone is not None and before.zone:
        ways.append(ways[0].tz_convert("Asia/Tokyo"))
    for newer in ways:
        found = joined(before, sheet_of(tmp_path / "newer.csv", newer, before), "newer.csv").blocks[0]
        assert len(found.values) == ROWS + 8
        apart = set(np.diff(found.been).tolist())
        assert len(apart) == 1 or step == "MS"
    if before.zone:
        with pytest.raises(BadInput, match="column 'ds': times without a zone follow on times in .*; write the zone"):
            sheet_of(tmp_path / "bare.csv", dates[ROWS:].tz_localize(None), before)


def test_offsets_in_every_form(tmp_path):
    hours = np.arange(np.datetime64("2024-03-25T00"), np.datetime64("2024-03-26T16")).astype(str)
    for end, zone in (
        ("Z", "+00:00"),
        ("+0100", "+01:00"),
        ("+01", "+01:00"),
        (" +01:00", "+01:00"),
        ("-09:30", "-09:30"),
    ):
        sheet = sheet_of(tmp_path / "t.csv", [f"{hour}:00:00{end}" for hour in hours])
        assert sheet.zone == zone and str(sheet.blocks[0].dates[5]).startswith("2024-03-25T05:00:00"), end


def test_a_zone_in_some_rows_alone_is_refused(tmp_path):
    dates = pd.date_range("2024-03-25", periods=ROWS, freq="h", tz="Asia/Kolkata").astype(str).tolist()
    with pytest.raises(BadInput, match="column 'ds': row 8 has no zone, where others have; write it after each"):
        sheet_of(tmp_path / "t.csv", [*dates[:7], dates[7][:-6], *dates[8:]])


def test_old_dates_and_long_spans(tmp_path):
    """Four centuries are read; what nanoseconds cannot hold is said, and no date to come wraps round."""
    years = [f"{year}-01-01" for year in range(1700, 2101, 10)]
    sheet = sheet_of(tmp_path / "t.csv", years)
    days = (pd.Timestamp("2100-01-01").to_pydatetime() - pd.Timestamp("1700-01-01").to_pydatetime()).days
    assert span_of(sheet.blocks[0].dates) == days * 86_400 * 10**9 == sheet.span
    assert seconds(sheet.blocks[0].dates)[-1] == times_of([sheet.blocks[0].dates])[-1, 0] == days * 86_400
    with pytest.raises(BadInput, match="holds no dates in one form from 1678 to 2261"):
        path = tmp_path / "old.csv"
        path.write_text("ds,y\n" + "".join(f"{year}-01-01,1.5\n" for year in range(1100, 1140)))
        read_sheet(Settings(data=str(path), date="ds", horizon=3), str(path))
    for step in (Step(nanoseconds=86_400 * 10**9), Step(months=1), Step(working_days=True)):
        with pytest.raises(DataError, match="go beyond the year 2261; ask for fewer"):
            following(np.array(["2262-03-31", "2262-04-01"], "datetime64[D]"), step, 40)
