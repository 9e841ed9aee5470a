"""The pages: calls, one call, tasks. Everything that is shown was said or sent by others."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_sqlalchemy.pagination import Pagination
from flask_wtf.csrf import CSRFError
from sqlalchemy import Select, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import defer, joinedload, selectinload
from werkzeug.exceptions import HTTPException

from .models import OUTCOMES, SENTIMENTS, ActionItem, Activity, Call, Task, db, now

pages = Blueprint("pages", __name__)

PER_PAGE = 25
MOST_PAGES = 100_000
# How often a page asks for news, in milliseconds.
CALL_MS = 2_000
LIST_MS = 3_000
# A call that ran for so long has ended, and nobody told us.
LONGEST_CALL = timedelta(hours=3)
# How long after a call its analysis may come, and what is sent to others be tried again.
AFTERMATH = timedelta(minutes=15)


@pages.get("/")
def calls() -> ResponseReturnValue:
    outcome, sentiment = _choice("outcome", OUTCOMES), _choice("sentiment", SENTIMENTS)
    query = (
        select(Call)
        .options(defer(Call.transcript), defer(Call.turns))
        .order_by(Call.happened_at.desc(), Call.call_id)
    )
    if outcome:
        query = query.where(Call.outcome == outcome)
    if sentiment:
        query = query.where(Call.sentiment == sentiment)
    return render_template(
        "calls.html",
        calls=_page_of(query),
        outcome=outcome,
        sentiment=sentiment,
        outcomes=OUTCOMES,
        sentiments=SENTIMENTS,
        live_every=LIST_MS,
    )


@pages.get("/calls/<call_id>")
def call(call_id: str) -> ResponseReturnValue:
    if "\0" in call_id:  # which PostgreSQL does not take
        abort(404)
    with_the_rest = selectinload(Call.items).joinedload(ActionItem.task)
    options = [with_the_rest, selectinload(Call.sendings), joinedload(Call.extraction)]
    found = db.get_or_404(Call, call_id, options=options)
    return render_template(
        "call.html",
        call=found,
        activity=db.session.get(Activity, call_id),
        live_every=_refresh_ms(found),
    )


@pages.get("/tasks")
def tasks() -> ResponseReturnValue:
    query = (
        select(Task)
        .options(joinedload(Task.item))
        .order_by(Task.done_at.is_not(None), Task.made_at.desc(), Task.item_id)
    )
    return render_template("tasks.html", tasks=_page_of(query), live_every=LIST_MS)


@pages.post("/tasks/<item_id>")
def tick(item_id: str) -> ResponseReturnValue:
    """Tick a task off, or take that back; those in Todoist are ticked off there."""
    task = db.session.get(Task, item_id) if "\0" not in item_id else None
    if task is None or task.place != "here":
        abort(404)
    task.done_at = (task.done_at or now()) if request.form.get("done") == "yes" else None
    db.session.commit()
    if request.form.get("back") == "call":
        return redirect(url_for(".call", call_id=task.item.call_id, _anchor="tasks"), 303)
    return redirect(url_for(".tasks"), 303)


@pages.get("/health")
def health() -> ResponseReturnValue:
    """Whether this process reaches its database."""
    try:
        db.session.execute(select(Call.call_id).limit(1))
    except SQLAlchemyError:
        return {"status": "no database"}, 503
    return {"status": "ok"}


@pages.app_errorhandler(SQLAlchemyError)
def show_outage(error: SQLAlchemyError) -> ResponseReturnValue:
    current_app.logger.error(
        "The database failed. Did flask --app call_center call-center init-db make its tables?",
        exc_info=error,
    )
    text = "The database does not answer. Try again in a minute."
    return render_template("error.html", title="Service Unavailable", text=text), 503


@pages.app_errorhandler(HTTPException)
def show_error(error: HTTPException) -> ResponseReturnValue:
    text = error.description
    if isinstance(error, CSRFError):
        text = "The page was too old to be sent. Go back, reload it and try again."
    elif error.code == 404:
        text = "There is nothing at this address."
    return render_template("error.html", title=error.name, text=text), error.code or 500


def _choice(name: str, choices: tuple[str, ...]) -> str | None:
    return request.args.get(name) if request.args.get(name) in choices else None


def _page_of(query: Select[tuple[Call]] | Select[tuple[Task]]) -> Pagination:
    page = request.args.get("page", 1, type=int)
    return db.paginate(query, page=min(page, MOST_PAGES), per_page=PER_PAGE)


def _refresh_ms(call: Call) -> int | None:
    """How often to ask for news of a call; None once there can be none."""
    if is_live(call) or (call.ended_at or call.happened_at) > now() - AFTERMATH:
        return CALL_MS
    return None


@pages.app_template_test("live")
def is_live(call: Call) -> bool:
    return not call.has_ended and call.happened_at > now() - LONGEST_CALL


@pages.app_template_filter("clock")
def clock(seconds: float | timedelta) -> str:
    """Such as 0:07, 12:30 or 1:02:03."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@pages.app_template_filter("moment")
def moment(time: datetime) -> str:
    return f"{time.day} {time:%b %Y, %H:%M} UTC"


@pages.app_template_filter("words")
def words(name: str) -> str:
    """A name of Retell's for people: ``user_hangup`` is User hangup."""
    return name.replace("_", " ").capitalize()


@pages.app_template_filter("dollars")
def dollars(cents: float) -> str:
    return f"${cents / 100:,.2f}"


@pages.app_template_filter("web_address")
def web_address(url: str | None) -> str | None:
    """The address, if it is one to follow: ``javascript:`` is not."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None
