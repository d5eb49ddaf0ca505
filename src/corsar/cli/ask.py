"""corsar recommend, search, explain, next-place and doctor: what asks a run."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, K, Past, Run, User, app, ids_of
from corsar.cli.show import tell, tell_found, tell_why
from corsar.errors import ConfigError


@app.command
def recommend(
    run: Run, /, *, user: User = None, history: Past = None, k: K = 10, exclude_seen: bool = False, json: Json = False
) -> None:
    """Items for a user, best first.

    Args:
        exclude_seen: Leave out the items that the user has had.
    """
    from corsar import api

    told = api.recommend(run, user=user, history=ids_of(history), k=k, exclude_seen=exclude_seen)
    if user is None and history is None:
        told["notes"].append("nobody is named, so this is for a person without a history; name one by --user or --history")
    tell_found(told, json)


@app.command
def search(run: Run, query: str, /, *, user: User = None, history: Past = None, k: K = 10, json: Json = False) -> None:
    """Items for a query of a user, best first.

    Args:
        query: The text that is searched for.
    """
    from corsar import api

    if not query.strip():
        raise ConfigError(f'the query is empty; write what is searched for, as in: corsar search {run} "red shoes"')
    tell_found(api.search(run, query, user=user, history=ids_of(history), k=k), json)


@app.command
def explain(
    run: Run, /, *, item: str, user: User = None, query: str | None = None, history: Past = None, json: Json = False
) -> None:
    """Say why an item has its rank: the past events that it rests on, and its rank without the feed and without searches.

    Args:
        item: The item that is asked about.
        query: What was searched for; a recommendation is explained where it is not said.
    """
    from corsar.api.ask import explain

    tell_why(explain(run, item, query, user=user, history=ids_of(history)), json)


@app.command
def next_place(
    run: Run,
    /,
    *,
    user: User = None,
    at: str | None = None,
    k: K = 10,
    exclude_seen: bool = False,
    page: Path | None = None,
    json: Json = False,
) -> None:
    """Places where a person goes next, likeliest first.

    Args:
        at: The moment of the question, as 2012-04-03T18:00 (UTC): later check-ins are not history.
        exclude_seen: Leave out the places that the person has been to.
        page: Write an HTML page as well: a map of history and candidates, and the person's week; it needs no network.
    """
    from corsar import api

    told = api.next_place(run, user=user, at=at, k=k, exclude_seen=exclude_seen)
    if page is not None:
        told["page"] = str(api.write_place_page(run, page, user=user, at=at, k=k))
    tell_found(told, json)
    if page is not None and not json:
        tell(json, told, f"the page is in {told['page']}")


@app.command
def doctor(path: Path | None = None, /, *, json: Json = False) -> None:
    """Say what this machine has, and whether a dataset directory or a run is whole.

    Args:
        path: A dataset directory, a run or an artifact.
    """
    from corsar import api

    told = api.doctor(path)
    tell(json, told, [{"what": name, "is": value} for name, value in told.items()])
