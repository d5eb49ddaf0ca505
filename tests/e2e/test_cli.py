"""The commands from end to end on a tiny dataset: what they print, what they write, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corsar.cli import gather_settings, main

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.toml"))
RUNS = [file for file in CONFIGS if not file.stem.endswith("_columns")]
TINY = ["--train.max_steps", "2", "--train.batch_size", "8", "--train.align_negatives", "4", "--train.valid_cases", "8"]


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> object:
    capsys.readouterr()
    main([*argv, "--json"])
    return json.loads(capsys.readouterr().out)


def _sentence(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    assert "Traceback" not in told.err
    return told.err


@pytest.fixture(scope="module")
def unisar_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of UniSAR, two steps long."""
    run = tmp_path_factory.mktemp("runs") / "unisar"
    small = ["--model.dim", "8", "--model.id_dim", "8", "--model.word_dim", "8"]
    main(["train", "--data", str(tiny_dataset), "--model", "unisar", "--out", str(run), *TINY, *small])
    return run


@pytest.mark.parametrize("config", RUNS, ids=[file.stem for file in RUNS])
def test_config_runs_for_two_steps(
    config: Path, tiny_dataset: Path, tiny_city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", tiny_city if config.stem.startswith("places_") else tiny_dataset
    main(["train", str(config), "--out", str(run), "--data", str(data), *TINY])
    told = _json(capsys, "evaluate", str(run), "--no-baselines", "--evaluate.bootstrap", "10")
    assert isinstance(told, list)
    assert (run / "report.json").is_file()
    for metrics in told[0]["metrics"].values():
        assert 0 <= metrics["NDCG@10"]["value"] <= 1


def test_configs_cover_all_real_logs() -> None:
    assert {file.stem.split("_")[0] for file in RUNS} == {"toys", "grocery", "places"}


def test_evaluate_prints_baselines_beside_the_run(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["evaluate", str(unisar_run), "--evaluate.bootstrap", "10"])
    told = capsys.readouterr().out
    assert all(name in told for name in ("unisar", "popularity", "covisit", "bm25", "blend_any_word", "blend_all_words"))


def test_blend_of_the_same_words_is_no_baseline_again(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "blend"
    main(["train", "--data", str(tiny_dataset), "--model", "blend", "--model.match", "all_words", "--out", str(run)])
    told = _json(capsys, "evaluate", str(run), "--evaluate.bootstrap", "0")
    names = ["blend", "popularity", "covisit", "bm25", "blend_any_word"]
    assert [one["name"] for one in told] == names
    assert [one["config"]["model"].get("match") for one in told] == ["all_words", None, None, None, "bm25"]
    folders = _json(capsys, "report", str(run), "--out", str(tmp_path / "page.html"))
    assert sorted(folders["runs"]) == sorted(names)


def test_prepare_leaves_out_what_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{user},{item},17000000000{user}{item}" for user in range(1, 5) for item in range(1, 5)]
    (tmp_path / "events.csv").write_text(
        "\n".join(["user_id,item_id,time_ms", *rows, "1,9,1700000000099", ",1,1700000000099", ""])
    )
    (tmp_path / "items.csv").write_text("item_id,title\n1,a\n2,b\n3,c\n4,d\n")
    argv = ["prepare", "tables", f"{tmp_path}/events.csv", "--items", f"{tmp_path}/items.csv", "--out", f"{tmp_path}/data"]
    assert "'user_id' is empty in 1 row, first in line 19; fill or remove them, or leave" in _sentence(capsys, *argv)
    told = _json(capsys, *argv, "--drop-blank", "--drop-unknown-items")
    assert [line["rows"] for line in told["funnel"] if line["stage"] == "rejected"] == [1, 1]
    assert told["counts"]["items"] == 4


def test_asking_for_nobody_or_nothing_is_told(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "popularity")
    main(["train", "--data", str(tiny_dataset), "--model", "popularity", "--out", run])
    capsys.readouterr()
    main(["recommend", run, "-k", "3"])
    told = capsys.readouterr()
    assert "nobody is named, so this is for a person without a history" in told.err
    assert "." not in told.out  # whole scores stay whole
    main(["recommend", run, "--history", ""])
    assert "nobody is named" not in capsys.readouterr().err
    assert _sentence(capsys, "search", run, " ").startswith("corsar: the query is empty; write what is searched for")


def test_recommend_ranks_items(unisar_run: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, "recommend", str(unisar_run), "--user", "u1", "-k", "3")
    assert isinstance(found, list)
    assert [one["rank"] for one in found] == [1, 2, 3]
    assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]


def test_recommend_answers_for_users_and_items_it_does_not_know(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recommend", str(unisar_run), "--user", "nobody", "--history", "i1,no such item,i2", "-k", "2", "--json"])
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 2
    assert "nobody" in told.err
    assert "1 of 3 items" in told.err


def test_recommend_leaves_out_what_was_seen(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = _json(capsys, "recommend", str(unisar_run), "--user", "u1", "-k", "20")
    left = _json(capsys, "recommend", str(unisar_run), "--user", "u1", "-k", "20", "--exclude-seen")
    assert isinstance(everything, list)
    assert isinstance(left, list)
    had = {f"i{(7 + place * 3) % 20}" for place in range(10)}
    assert {one["item_id"] for one in left} == {one["item_id"] for one in everything} - had
    assert [one["rank"] for one in left] == list(range(1, len(left) + 1))


def test_search_reads_the_query(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red = _json(capsys, "search", str(unisar_run), "red", "--user", "u1")
    blue = _json(capsys, "search", str(unisar_run), "blue shoe", "--user", "u1")
    assert [one["score"] for one in red] != [one["score"] for one in blue]  # type: ignore[attr-defined]


def test_doctor_knows_whole_things(unisar_run: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "torch" in _json(capsys, "doctor")  # type: ignore[operator]
    assert "artifact" in str(_json(capsys, "doctor", str(unisar_run)))
    assert "dataset" in str(_json(capsys, "doctor", str(tiny_dataset)))


def test_unknown_key_is_told_in_one_sentence(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _sentence(capsys, "train", "--data", str(tiny_dataset), "--train.epoch", "3")
    assert "did you mean 'epochs'" in told


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["trian"], "train"),
        (["recommend"], "RUN"),
        (["recommend", "no/such/run"], "no/such/run"),
        (["recommend", "x", "--usr", "3"], "--user"),
        (["evaluate"], "name at least one run"),
        (["evaluate", "no/such/run"], "no/such/run"),
        (["train", "no/such.toml"], "no/such.toml"),
        (["train", "--data", "no/such/dir"], "no/such/dir"),
        (["train"], "--data"),
        (["train", "--train.epochs"], "needs a value"),
        (["prepare", "tables", "no/such.csv", "--out", "x"], "no/such.csv"),
        (["prepare", "kuaisar", "no/such/dir", "--out", "x"], "no/such/dir"),
        (["doctor", "no/such/dir"], "no/such/dir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_fault_is_told_in_one_sentence(
    argv: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert word in _sentence(capsys, *argv)
    assert list(tmp_path.iterdir()) == []


def test_settings_keep_their_values() -> None:
    tokens = gather_settings(["train", "a.toml", "--train.clip_norm", "-1", "--preset=paper", "--out", "x.y"])
    assert tokens == [
        "train", "a.toml", "--section.key=train.clip_norm=-1", "--section.key=preset=paper", "--out", "x.y",
    ]  # fmt: skip


def test_evaluate_says_what_it_measured(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["evaluate", str(unisar_run), "--no-baselines", "--evaluate.bootstrap", "10"])
    told = capsys.readouterr().out
    assert "candidates: full" in told
    assert "95 % interval" in told


def test_search_without_a_known_word_says_so(unisar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["search", str(unisar_run), "zzzz"])
    assert "ranked by the history alone" in capsys.readouterr().err


def test_a_file_is_no_dataset_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,2\n")
    told = _sentence(capsys, "train", "--data", str(tmp_path / "events.csv"), "--out", str(tmp_path / "run"))
    assert "corsar prepare" in told
