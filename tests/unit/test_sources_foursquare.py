"""Check-ins from files: what is kept, and that every line is kept or counted under what is wrong with it."""

import gzip
import os
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corsar.errors import DataError
from corsar.schema import Tables
from corsar.sources.foursquare import read_foursquare

HEADER = "UserId,VenueId,TimeZone,Latitude,Longitude,Category,Time,Local_Time,L1_Category,time_sort"
ROW = "7,{place},-360,51.1,-114.0,{category},{clock},wrong,Food,{day}"


def tist(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def row(place: str = "v1", category: str = "Cafe", clock: str = "18:18:36", day: str = "3/4/2012 18:18") -> str:
    return ROW.format(place=place, category=category, clock=clock, day=day)


def read(folder: Path, data: bytes, name: str = "city.csv", **options: float) -> Tables:
    (folder / name).write_bytes(data)
    return read_foursquare(folder / name, **options)  # type: ignore[arg-type]


def counted(funnel: list[dict], stage: str) -> dict[str, int]:
    return {one["reason"]: one["rows"] for one in funnel if one["stage"] == stage and one["table"] == "check-ins"}


def test_foursquare_takes_the_trusted_columns_of_both_date_formats(tmp_path: Path) -> None:
    tables = read(
        tmp_path, tist(row(), row("v2", day="2012-04-03 18:18:00"), row("v3", clock="00:00:01", day="31/12/2012 0:00"))
    )
    first, second, third = tables.events.sort("item_id").to_dicts()
    assert first["time_ms"] == second["time_ms"] == 1_333_477_116_000  # 2012-04-03 18:18:36 UTC, not April's third month
    assert third["time_ms"] == 1_356_912_001_000
    assert {one["utc_offset_min"] for one in (first, second, third)} == {-360}
    assert first["kind"] == "checkin"
    assert first["user_id"] == 7
    place = tables.items.row(0, named=True)  # type: ignore[union-attr]
    assert (place["category"], place["group"], place["text"], place["lat_deg"]) == ("Cafe", "Food", "Cafe", 51.1)


def test_foursquare_reads_the_text_files_of_tsmc(tmp_path: Path) -> None:
    cells = ("470", "49bbd6c0f964a520f4531fe3", "4bf58dd8d48988d127951735", "Caf\u00e9", "40.7", "-74.0", "-240")
    line = "\t".join([*cells, "Tue Apr 03 18:00:09 +0000 2012\n"])
    tables = read(tmp_path, line.encode("latin-1") + line.replace("470", "471").encode(), "nyc.txt")
    assert tables.events["time_ms"].to_list() == [1_333_476_009_000] * 2
    assert tables.items["category"].to_list() == ["Caf\u00e9"]  # type: ignore[index]
    assert counted(tables.funnel, "note") == {"lines that are not UTF-8, read as Latin-1": 1}
    assert "group" not in tables.categories


def test_foursquare_counts_bad_rows_by_reason(tmp_path: Path) -> None:
    rows = [
        row(), row(),  # the same again
        row().replace("51.1", ""), row("v3").replace("51.1", "nan"), row("v4").replace("51.1,-114.0", "0,0"),
        row("v5").replace("51.1", "91"), row("v6").replace("-114.0", "181"),
        row("v7", day="31/2/2012 1:00"), row("v8", clock="25:00:00"), row("v9", day=""),
        row("").replace("7,", "7,", 1), row("v10").replace("7,", ",", 1),
        row("v11").replace("-360", "9000"), row("v12").replace("-360", "x"),
        row("v13") + ",one more", "7,v14",
        row('v15"'), row("v16", category='"A, B"'), row("v17", category=""),
    ]  # fmt: skip
    tables = read(tmp_path, tist(*rows))
    assert counted(tables.funnel, "rejected") == {
        "not the columns of the file": 3,
        "no user": 1,
        "no place": 1,
        "no coordinates": 3,
        "coordinates out of range": 2,
        "impossible time": 3,
        "impossible time zone": 2,
        "the same user, place and time again": 1,
    }
    assert tables.events["item_id"].to_list() == ["v1", "v16", "v17"]
    assert tables.items["category"].to_list() == ["Cafe", "A, B", None]  # type: ignore[index]
    assert {"table": "places", "stage": "note", "rows": 1, "reason": "places without a category, kept"} in tables.funnel


def test_foursquare_keeps_a_row_whose_twin_has_no_coordinates(tmp_path: Path) -> None:
    tables = read(tmp_path, tist(row().replace("51.1", ""), row()))
    assert counted(tables.funnel, "rejected") == {"no coordinates": 1}
    assert tables.events.height == 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([b"", b'"', b",", b"\xff", b"\n", b"\x00", b"\r", b"9", b"-"])),
        max_size=8,
    )
)
def test_foursquare_loses_no_line_whatever_is_in_it(cuts: list[tuple[int, bytes]]) -> None:
    body = "\n".join(row(f"v{n}", clock=f"18:18:{n:02}") for n in range(6)).encode()
    for at, put in cuts:
        body = body[: at % len(body)] + put + body[at % len(body) + 1 :]
    file = Path(tempfile.gettempdir()) / f"corsar_fuzz_{os.getpid()}.csv"
    file.write_bytes(HEADER.encode() + b"\n" + body)
    try:
        funnel = read_foursquare(file).funnel
    except DataError:
        return  # nothing of it is left, and it says so
    finally:
        file.unlink()
    assert sum(counted(funnel, "read").values()) == sum(counted(funnel, "rejected").values()) + sum(
        counted(funnel, "kept").values()
    )


def test_foursquare_core_leaves_users_and_places_with_enough(tmp_path: Path) -> None:
    rows = [
        f"{user},{place},0,1,1,C,10:00:{user + 2 * at:02},w,F,3/4/2012 1:00"
        for user in range(3)
        for at, place in enumerate("ab")
    ]
    rows += ["9,a,0,1,1,C,11:00:00,w,F,3/4/2012 1:00", "0,z,0,1,1,C,12:00:00,w,F,3/4/2012 1:00"]
    tables = read(tmp_path, tist(*rows), k_core=2)
    assert sorted(set(tables.events["user_id"])) == [0, 1, 2]
    assert sorted(tables.items["item_id"]) == ["a", "b"]  # type: ignore[index]
    assert counted(tables.funnel, "rejected") == {
        "users with fewer than 2 check-ins (k-core)": 1,
        "places with fewer than 2 check-ins (k-core)": 1,
    }


def test_foursquare_cuts_trajectories_at_long_gaps(tmp_path: Path) -> None:
    days = ["2012-04-03", "2012-04-04", "2012-04-08", "2012-04-20", "2012-04-21"]
    tables = read(tmp_path, tist(*(row(f"v{n}", day=day) for n, day in enumerate(days))), trajectory_hours=24)
    assert tables.events["item_id"].to_list() == ["v0", "v1", "v3", "v4"]
    sessions = tables.events["session_id"].to_list()
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3]
    assert counted(tables.funnel, "rejected") == {"alone within 24 hours": 1}


def test_foursquare_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_foursquare(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no column 'VenueId'"):
        read(tmp_path, tist(header="UserId,TimeZone"))
    with pytest.raises(DataError, match="no check-in is left"):
        read(tmp_path, tist())
    with pytest.raises(DataError, match="not readable"):
        read(tmp_path, gzip.compress(tist(row()))[:-9], "city.csv.gz")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "users", "places"), [("CAL_checkin.csv", 9317, 130, 604), ("PHO_checkin.csv.gz", 35337, 767, 1950)]
)
def test_foursquare_keeps_all_of_both_cities(shared_data: Path, name: str, rows: int, users: int, places: int) -> None:
    tables = read_foursquare(shared_data / "foursquare_calgary_phoenix" / name)
    assert (tables.events.height, tables.events["user_id"].n_unique(), tables.items.height) == (rows, users, places)  # type: ignore[union-attr]
    assert counted(tables.funnel, "rejected") == {}
    local = tables.events.select(
        pl.from_epoch(pl.col("time_ms") + 60_000 * pl.col("utc_offset_min").cast(pl.Int64), "ms")
    ).to_series()
    assert local.min().year == 2012  # type: ignore[union-attr]
