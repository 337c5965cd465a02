"""`page`: the ASGI app that shows runs, and steers them where that is allowed.

Each view is one function: it reads what is wanted from the address, asks the `Client`, and gives it
to a template. They run in threads, so that the server's event loop only ever waits for streams.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from oautom.client import Client, VectView
from oautom.client.lookout import Engine, Lookout
from oautom.errors import (
    LogError,
    NoEngineError,
    OAutomError,
    SettingError,
    UnansweredError,
    UnknownFlowError,
    UnknownStepError,
    UnknownVectError,
    VectStateError,
    WithdrawnError,
    shown,
)
from oautom.web import asks, forms, shows, texts
from oautom.web.guard import Guard, Token, host_of
from oautom.web.links import Links
from oautom.web.live import STREAMS, Feed, Stream
from oautom.web.templating import STATIC, VERSION, compile_all, render

_STATUS: Final[tuple[tuple[type[OAutomError], int], ...]] = (  # the first that fits
    (asks.NotEnteredError, 403),
    (UnknownVectError, 404),
    (UnknownStepError, 404),
    (UnknownFlowError, 404),
    (VectStateError, 409),
    (NoEngineError, 503),
    (WithdrawnError, 503),
    (UnansweredError, 504),
    (LogError, 503),
    (OAutomError, 400),
)
PAGES: Final = 100_000
_FOREVER: Final = "public, max-age=31536000, immutable"


class Page:
    """The page of one log: an ASGI app, made by `page`.

    Attributes:
        token: The secret of those who may change something; None where nobody may.
    """

    def __init__(
        self, client: Client, *, token: str | None, hosts: Iterable[str], any_address: bool
    ) -> None:
        compile_all()
        self._client = client
        self._token = None if token is None else Token(token)
        self._lookout = Lookout(client)
        self._desk = shows.Desk(client)
        self._feeds: dict[asyncio.AbstractEventLoop, Feed] = {}
        self._links = Links()
        self.has_own_server = False
        routes = [Route("/static/{name}", self._static), Route("/stream", self._stream)]
        for path, view in self._views().items():
            routes.append(Route(path, self._shown(view)))
        routes.append(Route("/do", self._do, methods=["POST"]))
        routes.append(Route("/enter", self._enter, methods=["POST"]))
        app = Starlette(routes=routes, exception_handlers={404: self._not_there})
        app.router.redirect_slashes = False
        self._app = Guard(app, hosts, any_address=any_address)

    @property
    def token(self) -> str | None:
        """The secret of those who may change something; None where nobody may."""
        return None if self._token is None else self._token.secret

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    def close(self) -> None:
        """End all streams, so that a server can end; any thread."""
        for loop, feed in list(self._feeds.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(feed.close)

    def __repr__(self) -> str:
        """Return what it shows, and not its token."""
        return f"<Page of {self._client!r}>"

    # What every view has

    def _views(self) -> dict[str, Callable[[Request], Response]]:
        return {
            "/": self._runs,
            "/days": self._days,
            "/run": self._run,
            "/step": self._step,
            "/events": self._events,
            "/whole": self._whole,
            "/inbox": self._inbox,
            "/plans": self._plans,
            "/work": self._work,
            "/start": self._start,
            "/confirm": self._confirm,
            "/enter": self._enter_form,
        }

    def _shown(self, view: Callable[[Request], Response]) -> Callable[[Request], Any]:
        def answer(request: Request) -> Response:
            try:
                if (given := request.query_params.get("token")) is not None:
                    return self._entered(request, given)
                return view(request)
            except OAutomError as error:
                return self._refused(request, error)

        async def answered(request: Request) -> Response:
            return await run_in_threadpool(answer, request)

        return answered

    def _html(self, request: Request, template: str, code: int = 200, **told: Any) -> Response:
        now = texts.utc_now()
        try:
            engine, waiting, problem = self._lookout.engine(), self._desk.count(), ""
        except OAutomError as error:
            engine, waiting, problem = Engine("none"), 0, str(error)
        may_steer = self._token is not None and self._token.is_shown(request.scope, {})
        content = render(
            template,
            **{"at": None, "stream": "", "seq": 0, **told},
            links=self._links,
            now=now,
            zone=texts.zone(now),
            engine=engine,
            waiting_count=waiting,
            problem=problem,
            steer=may_steer,
            is_locked=self._token is not None and not may_steer,
        )
        return HTMLResponse(content, code)

    def _refused(self, request: Request, error: OAutomError) -> Response:
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        return self._html(request, "error.html", status, status=status, said=str(error))

    async def _not_there(self, request: Request, error: Exception) -> Response:
        said = "there is no such page here"

        def answer() -> Response:
            return self._html(request, "error.html", 404, status=404, said=said)

        return await run_in_threadpool(answer)

    def _static(self, request: Request) -> Response:
        found = STATIC.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("there is no such file\n", 404)
        is_fixed = request.query_params.get("v") == VERSION
        headers = {"cache-control": _FOREVER if is_fixed else "no-cache"}
        return Response(found[0], media_type=found[1], headers=headers)

    # The views

    def _runs(self, request: Request) -> Response:
        asked = request.query_params
        filters = shows.Filters(*(asked.get(name, "") for name in shows.Filters._fields))
        seq = self._client.seq
        found, page = shows.runs(self._client, filters, _page(request))
        engine = self._client.engine
        flows = sorted({*(engine.flows if engine else ()), *(each.flow for each in found)})
        return self._html(
            request,
            "runs.html",
            runs=found,
            page=page,
            filters=filters,
            flows=flows,
            states=shows.VECT_STATES,
            stream=self._links.view("stream", after=seq) if page.number == 1 else "",
            seq=seq,
        )

    def _days(self, request: Request) -> Response:
        seq = self._client.seq
        found = shows.days(self._client, texts.utc_now())
        stream = self._links.view("stream", after=seq)
        return self._html(request, "days.html", days=found, stream=stream, seq=seq)

    def _moment(self, request: Request) -> tuple[VectView, VectView, shows.Moment]:
        """Return the run that an address names, as it stands now and as it is to be shown."""
        asked = request.query_params
        at = texts.number_of(asked.get("at", ""), "at", 1, 0) or None
        place = texts.number_of(asked.get("place", ""), "place", 1, 0)
        now, then = shows.at_moment(self._client, _given(request, "id"), at, place)
        return now, then, shows.moment(now, then.seq if place and then.is_past else at)

    def _live(self, now: VectView, at: int | None, **watched: Any) -> dict[str, Any]:
        """Return where a view of a run is told of what comes; one of the past stays as it is."""
        after = now.seq
        stream = self._links.view("stream", after=after, vect=now.id, **watched)
        return {"stream": "" if at is not None else stream, "seq": after, "at": at}

    def _run(self, request: Request) -> Response:
        asked = request.query_params
        now, then, moment = self._moment(request)
        steps = shows.steps(then, asked.get("map", ""), asked.get("show", ""), _page(request))
        is_part = bool(steps.of_map or steps.state or steps.page.number > 1)
        return self._html(
            request,
            "run.html",
            **self._live(now, moment.seq),
            run=then,
            newest=now,
            moment=moment,
            steps=steps,
            pictures=None
            if is_part
            else shows.pictures(then, self._links, moment.seq, is_asked="timeline" in asked),
            params=shows.values(then.params, "param"),
            key="",
            reasons=shows.reasons(then, steps.rows),
            children=shows.children(then, steps.rows),
        )

    def _step(self, request: Request) -> Response:
        now, then, moment = self._moment(request)
        step = then.steps[_given(request, "step")]
        return self._html(
            request,
            "step.html",
            **self._live(now, moment.seq, step=step.name, attempt=step.attempt),
            run=then,
            newest=now,
            moment=moment,
            step=shows.step(then, step, then.explain(step.name)),
            key="",
        )

    def _events(self, request: Request) -> Response:
        now = self._client.vect(_given(request, "id"))
        step = request.query_params.get("step", "")
        found, page = shows.events(now, _page(request), step)
        return self._html(
            request,
            "events.html",
            **self._live(now, None),
            run=now,
            events=found,
            page=page,
            of_step=step,
        )

    def _whole(self, request: Request) -> Response:
        """Return a value that a page cuts short, as plain text."""
        asked = request.query_params
        at = texts.number_of(asked.get("at", ""), "at", 1, 0) or None
        _, view = shows.at_moment(self._client, _given(request, "id"), at, 0)
        found = shows.whole(view, asked.get("what", ""), asked.get("step", ""), asked.get("of", ""))
        return PlainTextResponse(found)

    def _inbox(self, request: Request) -> Response:
        seq = self._client.seq
        found = shows.waiting(self._client)
        stream = self._links.view("stream", after=seq)
        return self._html(request, "inbox.html", waiting=found, stream=stream, seq=seq)

    def _plans(self, request: Request) -> Response:
        seq = self._client.seq
        stream = self._links.view("stream", after=seq)
        plans = self._client.plans()
        return self._html(request, "plans.html", plans=plans, stream=stream, seq=seq)

    def _work(self, request: Request) -> Response:
        seq = self._client.seq
        stream = self._links.view("stream", after=seq)
        work = shows.work(self._client)
        return self._html(request, "work.html", work=work, stream=stream, seq=seq)

    def _start(self, request: Request) -> Response:
        self._check_steered(request)
        engine, flow = self._client.engine, request.query_params.get("flow", "")
        flows = dict(engine.flows) if engine is not None else {}
        if not flow:
            return self._html(request, "flows.html", flows=sorted(flows.items()))
        if flow not in flows:
            raise UnknownFlowError(flow, list(flows))
        fields = forms.fields_of(flows[flow].params)
        new = secrets.token_hex(8)
        return self._html(request, "start.html", flow=flows[flow], fields=fields, new_id=new)

    def _confirm(self, request: Request) -> Response:
        self._check_steered(request)
        action = request.query_params.get("action", "")
        if action not in asks.CONFIRMED:
            raise SettingError(f"action must be {asks.LISTED}, not {shown(action)}")
        run = self._client.vect(_given(request, "id"))
        said = asks.CONFIRMED[action]
        return self._html(request, "confirm.html", action=action, run=run, said=said)

    def _enter_form(self, request: Request) -> Response:
        return self._html(request, "enter.html", is_wrong=False)

    # What changes something

    def _check_steered(self, request: Request) -> None:
        if self._token is None:
            raise asks.NotEnteredError(
                "this page only shows; it steers where it is made with steer=True, or by --steer"
            )
        if not self._token.is_shown(request.scope, {}):
            raise asks.NotEnteredError("enter the token of this page first")

    def _entered(self, request: Request, given: str) -> Response:
        """Answer to an address with the token: it goes into a cookie, and out of the address."""
        kept = [(n, each) for n, each in request.query_params.multi_items() if n != "token"]
        view = request.url.path.rpartition("/")[2] or "./"
        response = RedirectResponse(f"{view}?{urlencode(kept)}" if kept else view, 303)
        if self._token is not None and self._token.is_right(given):
            self._remember(request, response)
        return response

    def _remember(self, request: Request, response: Response) -> None:
        token = self._token
        assert token is not None
        # No path: then it is for the folder that the browser sees, below whatever proxy.
        is_secure = request.url.scheme == "https"
        name, value = token.cookie_name, token.cookie
        response.set_cookie(
            name, value, path=None, httponly=True, samesite="strict", secure=is_secure
        )

    async def _enter(self, request: Request) -> Response:
        try:
            form = await forms.form_of(request)
        except forms.FormError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        if self._token is None or not self._token.is_right(form.get("token")):
            return self._html(request, "enter.html", 403, is_wrong=True)
        response = RedirectResponse("./", 303)
        self._remember(request, response)
        return response

    async def _do(self, request: Request) -> Response:
        try:
            form = await forms.form_of(request)
        except forms.FormError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        if self._token is None:
            return PlainTextResponse("this page only shows, and nothing was done\n", 403)
        if not self._token.is_shown(request.scope, form):
            return PlainTextResponse("the token is missing or wrong, and nothing was done\n", 403)

        def answer() -> Response:
            try:
                return RedirectResponse(asks.carry_out(self._client, form, self._links), 303)
            except OAutomError as error:
                return self._refused(request, error)

        return await run_in_threadpool(answer)

    # What comes

    async def _stream(self, request: Request) -> Any:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        asked = request.query_params
        loop = asyncio.get_running_loop()
        feed = self._feeds.get(loop)
        if feed is None or feed.is_over:
            self._feeds = {each: kept for each, kept in self._feeds.items() if not each.is_closed()}
            feed = self._feeds[loop] = Feed(self._client, self._lookout)
        if feed.count >= STREAMS:
            return PlainTextResponse("too many pages are open\n", 503)
        given = request.headers.get("last-event-id") or asked.get("after", "")
        vect, step = asked.get("vect") or None, asked.get("step") or None
        try:
            after = texts.number_of(given, "after", 0, -1)
            if vect is not None:
                await run_in_threadpool(self._client.events, 0, vect, 1)
            attempt = texts.number_of(asked.get("attempt", ""), "attempt", 0, 0)
        except OAutomError as error:
            status = next(code for kind, code in _STATUS if isinstance(error, kind))
            return PlainTextResponse(f"{error}\n", status)
        watched = None if vect is None or step is None else (step, attempt)
        return Stream(
            feed,
            None if after < 0 else after,
            vect,
            watched,
            lambda step, attempt: self._client.text(vect or "", step, attempt),
            is_bounded=not self.has_own_server,
        )


def _page(request: Request) -> int:
    return texts.number_of(request.query_params.get("page", ""), "page", 1, 1, PAGES)


def _given(request: Request, name: str) -> str:
    found = request.query_params.get(name, "")
    if not found:
        raise SettingError(f"the address has no {name}")
    return found


def page(
    app_or_client: Any,
    *,
    steer: bool = False,
    token: str | None = None,
    hosts: Iterable[str] = (),
    any_address: bool = False,
) -> Page:
    """Return the page of a log, to be mounted in an ASGI app, or to be served by itself.

    It shows runs to everyone who reaches it. What changes something needs `steer`, and the token.

    Args:
        app_or_client: A `Client`; or what one is made of: an `OAutom`, or the path of a log.
        steer: Whether runs can be approved, cancelled, started and so on.
        token: The secret of those who may; None for one that is made: see `Page.token`.
        hosts: The names by which the page is asked besides `localhost`, `127.0.0.1` and `[::1]`.
        any_address: Whether it is asked by any number of a machine as well.

    Raises:
        SettingError: An argument cannot be used.
    """
    client = app_or_client if isinstance(app_or_client, Client) else Client(app_or_client)
    if token is not None and (not isinstance(token, str) or not token.strip()):
        raise SettingError("token must be a text that is not blank, or None for one that is made")
    if token is not None and not steer:
        raise SettingError("token is of use with steer=True only: without, nothing can be changed")
    given = [hosts] if isinstance(hosts, str | bytes) else list(hosts)
    if given == [hosts] or not all(isinstance(each, str) for each in given):
        raise SettingError(f"hosts must be a list of names of machines, not {shown(hosts)}")
    names = {each: host_of(each) for each in given}
    if wrong := [each for each, name in names.items() if name is None]:
        raise SettingError(f"hosts must be names of machines, such as 'example.org', not {wrong!r}")
    secret = (token or secrets.token_urlsafe(24)) if steer else None
    known = [name for name in names.values() if name is not None]
    return Page(client, token=secret, hosts=known, any_address=any_address)
