"""`LambdaExecution`: a step that calls a function on AWS Lambda.

boto3 is imported when the first client is made. The engine's promise is that each attempt calls the
function once, and botocore breaks it: by default it repeats a call that has timed out, or that AWS
has answered with a failure, and then the function runs twice where the log has one attempt. So a
call of ours is never repeated by botocore (`_ONCE`), whatever client makes it.

A call waits on a thread of its own. botocore cannot be interrupted, so a cancel leaves that thread
behind; it ends when AWS answers, or when the client's `read_timeout` is over.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Unpack
from urllib.parse import quote
from uuid import uuid4
from weakref import WeakKeyDictionary

from oautom.errors import NotJsonError, SettingError, shown
from oautom.processes import forked
from oautom.steps.arguments import hold_references, resolved, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.work import StepError
from oautom.values.convert import plain_of
from oautom.values.json import from_json, to_json
from oautom.values.names import plain_text

Client = Any
"""A client of boto3, which has no types."""

PAYLOAD_BYTES_MAX: Final = 6 * 2**20
"""What AWS takes, and gives back, in a call that waits for the function."""
_CONTEXT_BYTES_MAX: Final = 3_583  # of AWS, for a `ClientContext` in base64
_PART_CHARS_MAX: Final = 150  # of each name in a key of S3, which has at most 1,024 bytes
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 960  # longer than any function may run: 15 minutes
_HTTP_ERROR: Final = 300
_SERVER_ERROR: Final = 500

_ONCE: ContextVar[bool] = ContextVar("oautom_once", default=False)
"""Whether the calling thread makes a call that botocore may not repeat."""


class NotInvokedError(StepError):
    """The failure of a `LambdaExecution` whose function has certainly not begun.

    Raised when AWS has refused the call (also by throttling), cannot be reached, or there are no
    credentials: with `retry_on=(NotInvokedError,)`, a step is tried again only then.
    """


class LambdaExecution(Execution):
    """A step that calls a function on AWS Lambda; its answer is the output of the step.

    The call is made from this process, whatever the executor of the app is, and waits for the
    function. Each attempt calls the function once. A cancel, a timeout and the end of the program
    end the step, but not the function: that goes on at AWS, and its answer is dropped. So may the
    function run more than once for a step. It can recognise this by `context.client_context`, where
    `custom['oautom_key']` is the same in all attempts of a step; `oautom_attempt`, `oautom_flow`,
    `oautom_vect` and `oautom_step` are there as well, as texts.

    An error that the function reports fails the step; the report is in the `details` of the
    failure. If the function has not begun, the error is a `NotInvokedError`. The last 4 KB of what
    the function has written are the text of the step.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        function_name: The name of the function, or its ARN.
        payload: The event that the function gets: a value that JSON can represent, with outputs of
            other steps, parameters of the flow and secrets anywhere in it; no secrets with a
            `bucket`. Default: `{}`.
        qualifier: A version, or an alias, of the function. Default: the newest.
        region: The region of AWS. Default: that of the environment.
        bucket: A bucket of S3. The payload is written there, in an object of its own under
            `oautom/`, and the function gets `{"s3": [bucket, key]}` instead. The object is deleted
            when the function has answered. Default: the payload itself is sent, of at most 6 MiB.
        client: A boto3 client of Lambda, or a function that makes one, which is called once for
            each flow. Default: one that waits 16 minutes for an answer.
        s3: The same for S3, with `bucket`.
        options: As of every `Execution`.

    Raises:
        FlowError: An argument cannot be used, or boto3 is needed and not installed.
    """

    takes_secrets = True
    runs_here = True  # it only waits, with the credentials of this program

    def __init__(  # the signature that users know
        self,
        name: str,
        flow: Owner,
        function_name: str,
        payload: Any = None,
        *,
        qualifier: str | None = None,
        region: str | None = None,
        bucket: str | None = None,
        client: Client | Callable[[], Client] | None = None,
        s3: Client | Callable[[], Client] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        try:
            self.function_name = _filled("function_name", function_name)
            self.qualifier = None if qualifier is None else _filled("qualifier", qualifier)
            self.region = None if region is None else _filled("region", region)
            self.bucket = None if bucket is None else _filled("bucket", bucket)
            self._check_clients(client, s3)
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        self._client = _Source("lambda", client, self.region, ("invoke",))
        self._s3 = _Source("s3", s3, self.region, ("put_object", "delete_object"))
        self._is_wired = hold_references(payload)
        # An object in a bucket is stored, if only for a while.
        self.payload = wired(
            flow, name, {} if payload is None else payload, may_be_secret=self.bucket is None
        )
        if not self._is_wired:
            self._check_payload(flow, name)
        super().__init__(name, flow, **options)
        self.follow(uses_in({"payload": self.payload}))

    def _check_clients(self, client: Client, s3: Client) -> None:
        if s3 is not None and self.bucket is None:
            raise SettingError("s3 is used with a bucket only; give bucket=..., or leave s3 out")
        if self.region is not None and client is not None and (s3 is not None or not self.bucket):
            raise SettingError("its clients have a region already; leave region out")
        needs_boto = client is None or (self.bucket is not None and s3 is None)
        if needs_boto and find_spec("boto3") is None:
            raise SettingError("a LambdaExecution needs boto3: pip install 'oautom[aws]'")
        for what, given, method in (("client", client, "invoke"), ("s3", s3, "put_object")):
            if given is not None and not callable(getattr(given, method, given)):
                raise SettingError(
                    f"{what} must be a boto3 client of {'Lambda' if what == 'client' else 'S3'}, "
                    f"or a function that makes one, not {shown(given)}"
                )

    def _check_payload(self, flow: Owner, name: str) -> None:
        try:
            size_bytes = len(to_json(plain_of(self.payload)))
        except NotJsonError as error:
            raise self.wrong(flow, name, f"payload cannot be sent: {error}") from error
        if size_bytes > PAYLOAD_BYTES_MAX and self.bucket is None:
            raise self.wrong(flow, name, _too_large(size_bytes))

    def run(self, context: Context) -> Any:
        """Call the function, and return its answer.

        Raises:
            NotInvokedError: The function has not begun.
            StepError: The function has reported an error, its answer is no JSON, or none has come.
        """
        payload = self._content(context)
        try:
            clients = self._client.of(self.flow), self.bucket and self._s3.of(self.flow)
        except Exception as error:
            raise _explained(self.function_name, error, has_begun=False) from error
        answer = self._answer(context, _Call(self, context, payload, *clients))
        if answer.text:
            context.buffer.write(answer.text)
        if answer.error is not None:
            raise self._reported(answer)
        if not answer.content:
            return None
        try:
            return from_json(answer.content)
        except ValueError as error:
            raise StepError(
                f"the answer of function '{self.function_name}' is no JSON: {error}"
            ) from error

    def _content(self, context: Context) -> bytes:
        try:
            content = to_json(plain_of(resolved(self.payload, context)))
        except NotJsonError as error:
            raise NotInvokedError(f"its payload cannot be sent: {error}") from error
        if len(content) > PAYLOAD_BYTES_MAX and self.bucket is None:
            raise NotInvokedError(_too_large(len(content)))
        return content

    def _answer(self, context: Context, call: _Call) -> _Answer:
        """Make the call on a thread of its own; return at once if the step is cancelled."""
        answers: SimpleQueue[_Answer | BaseException | None] = SimpleQueue()
        if not context.on_cancel(lambda: answers.put(None)):
            raise NotInvokedError("the step was cancelled before its function was called")
        threading.Thread(
            target=lambda: answers.put(call.outcome()), name="oautom-lambda", daemon=True
        ).start()
        answer = answers.get()
        if answer is None:
            raise StepError(
                f"the step was cancelled; function '{self.function_name}' may go on at AWS"
            )
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _reported(self, answer: _Answer) -> StepError:
        """Return the error of a step whose function has failed."""
        text = answer.content.decode(errors="replace")
        try:
            report = from_json(answer.content)
        except ValueError:
            report = text
        details = report if isinstance(report, dict) else {"report": report}
        told = [str(details[key]) for key in ("errorType", "errorMessage") if details.get(key)]
        return _with_details(
            StepError(f"function '{self.function_name}' failed: {': '.join(told) or text}"),
            {**details, "function_error": answer.error},
        )


class _Answer(NamedTuple):
    """What AWS has answered: whether the function failed, its output, and the end of its text."""

    error: str | None
    content: bytes
    text: bytes


class _Call(NamedTuple):
    """One call of a function, on a thread of its own."""

    step: LambdaExecution
    context: Context
    payload: bytes
    client: Client
    s3: Client

    def outcome(self) -> _Answer | BaseException | None:
        """Make the call; return None if the step was cancelled before it."""
        payload, key = self.payload, ""
        try:
            if self.s3 is not None:
                key = self._put()
                payload = to_json({"s3": [self.step.bucket, key]})
        except BaseException as error:  # the step raises it
            return _explained(self.step.function_name, error, has_begun=False)
        if self.context.is_unwanted:
            self._delete(key)
            return None
        try:
            answer = self._invoke(payload)
        except BaseException as error:  # as above
            has_begun = not _is_refusal(error)
            if not has_begun:  # else the function may still read it
                self._delete(key)
            return _explained(self.step.function_name, error, has_begun=has_begun)
        self._delete(key)
        return answer

    def _put(self) -> str:
        key = _key_of(self.context)
        self.s3.put_object(
            Bucket=self.step.bucket, Key=key, Body=self.payload, ContentType="application/json"
        )
        return key

    def _invoke(self, payload: bytes) -> _Answer:
        more = {} if self.step.qualifier is None else {"Qualifier": self.step.qualifier}
        _ONCE.set(True)  # for this thread, which makes no other call of Lambda
        answer = self.client.invoke(
            FunctionName=self.step.function_name,
            Payload=payload,
            LogType="Tail",
            ClientContext=_identity(self.step.flow, self.context),
            **more,
        )
        text = base64.b64decode(answer.get("LogResult") or "")
        return _Answer(answer.get("FunctionError"), answer["Payload"].read(), text)

    def _delete(self, key: str) -> None:
        if not key:
            return
        try:
            self.s3.delete_object(Bucket=self.step.bucket, Key=key)
        except Exception as error:  # the function has answered: that counts
            self.context.log.warning("its payload is left in S3, at %s: %s", key, error)


# Clients


class _Shared:
    """What the steps of a flow share: their clients, and the identity of a log in memory."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self.clients: dict[tuple[str, str | None, int], Client] = {}


_shared: WeakKeyDictionary[Owner, _Shared] = WeakKeyDictionary()
_lock = threading.Lock()  # boto3 makes clients on one thread at a time


def _begin_anew() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = threading.Lock()


forked.in_child(_begin_anew)


def _of(flow: Owner) -> _Shared:
    """Return what the steps of a flow share; with `_lock`."""
    if flow not in _shared:
        _shared[flow] = _Shared()
    return _shared[flow]


class _Source(NamedTuple):
    """Where the client of a service comes from."""

    service: str
    given: Any
    region: str | None
    methods: tuple[str, ...]

    def of(self, flow: Owner) -> Client:
        """Return the client for the steps of a flow.

        Raises:
            StepError: The given function makes no client.
        """
        with _lock:
            clients, key = _of(flow).clients, (self.service, self.region, id(self.given))
            if key not in clients:
                clients[key] = self._made()
            return clients[key]

    def _made(self) -> Client:
        if self.given is None:
            client = self._default()
        else:
            client = self.given if self._fits(self.given) else self.given()
        if not self._fits(client):
            raise StepError(f"its function makes {shown(client)}, not a boto3 client")
        if self.service == "lambda" and hasattr(client, "meta"):
            client.meta.events.register_first(
                "needs-retry.lambda.Invoke", _refuse_to_repeat, unique_id="oautom-once"
            )
        return client

    def _fits(self, client: Client) -> bool:
        return all(callable(getattr(client, method, None)) for method in self.methods)

    def _default(self) -> Client:
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - slow, and an extra
        from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            tcp_keepalive=True,  # a gateway forgets a connection that is silent for minutes
        )
        session = boto3.session.Session()  # the default session is not safe for threads
        return session.client(self.service, region_name=self.region, config=config)


def _refuse_to_repeat(
    response: Any = None, caught_exception: Exception | None = None, **_: object
) -> None:
    """Raise what botocore would repeat a call for, if the call is ours; called by botocore."""
    if not _ONCE.get():
        return
    if caught_exception is not None:
        raise caught_exception
    if response is not None and response[0].status_code >= _HTTP_ERROR:
        from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

        raise ClientError(response[1], "Invoke")


# What a call says of its step


def _identity(flow: Owner, context: Context) -> str:
    """Return the `ClientContext` of a call, by which the function can recognise a repeat."""
    with _lock:
        log = context.log_id or _of(flow).id
    place = {"flow": context.flow, "vect": context.vect_id, "step": context.step}
    key = hashlib.sha256("\0".join((log, *place.values())).encode()).hexdigest()
    facts = {"oautom_key": key, "oautom_attempt": str(context.number)}
    named = facts | {f"oautom_{name}": value for name, value in place.items()}
    content = _in_base64({"custom": named})
    return content if len(content) <= _CONTEXT_BYTES_MAX else _in_base64({"custom": facts})


def _in_base64(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def _key_of(context: Context) -> str:
    """Return the key of a payload: two programs may have Vects of the same name, so it is new."""
    names = (context.flow, context.vect_id, context.step)
    place = "/".join(quote(name, safe="")[:_PART_CHARS_MAX] for name in names)
    return f"oautom/{place}/{context.number}-{uuid4().hex}.json"


# Errors

_REMEDIES: Final[Mapping[str, str]] = {
    "NoCredentialsError": (
        "; give this program the credentials of AWS (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "a profile, a role), or the step a client=..."
    ),
    "NoRegionError": "; give the step a region=..., or set AWS_DEFAULT_REGION",
    "ResourceNotFoundException": "; look at its name, its qualifier, and its region",
    "TooManyRequestsException": (
        "; AWS runs too many functions at once: a RetryPolicy tries it again later"
    ),
}


def _explained(function: str, error: BaseException, *, has_begun: bool) -> BaseException:
    """Return the error of a step whose call has raised `error`; any other error as it is."""
    if not _is_of_botocore(error):
        return error
    told, facts = " ".join(str(error).split()), _facts(error)
    if has_begun:
        what = f"function '{function}' may have run, or go on, but AWS gave no answer"
        explained = StepError(f"{what}: {told}")
    else:
        remedy = _REMEDIES.get(facts.get("code") or type(error).__name__, "")
        explained = NotInvokedError(f"function '{function}' was not called: {told}{remedy}")
    explained.__cause__ = error
    return _with_details(explained, facts)


def _with_details(error: StepError, details: Mapping[str, Any]) -> StepError:
    error.details = details  # not as arguments: a function may report a `message`
    return error


def _filled(what: str, given: object) -> str:
    text = plain_text(given, what)
    if not text.strip():
        raise SettingError(f"{what} must not be blank")
    return text


def _too_large(size_bytes: int) -> str:
    return (
        f"its payload has {size_bytes} bytes as JSON, but AWS takes at most {PAYLOAD_BYTES_MAX}; "
        "give bucket=... to send it by way of S3"
    )


def _is_of_botocore(error: BaseException) -> bool:
    """Whether an error comes from botocore, which may be missing if no client is one of it."""
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore")


_BEFORE: Final = frozenset({"EndpointConnectionError", "ConnectTimeoutError"})
_SENT: Final = frozenset(
    {
        "ConnectionError",  # as `SSLError`
        "HTTPClientError",  # as `ReadTimeoutError` and `ConnectionClosedError`
        "IncompleteReadError",
        "ResponseParserError",
    }
)
"""Errors of botocore after which a request may have reached AWS; all others are older."""


def _is_refusal(error: BaseException) -> bool:
    """Whether an error of a call shows that the function has not begun."""
    if not _is_of_botocore(error):
        return False
    if (status := _answered(error, "ResponseMetadata", "HTTPStatusCode")) is not None:
        return int(status) < _SERVER_ERROR
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _BEFORE) or not names & _SENT


def _answered(error: BaseException, *path: str) -> Any:
    """Return a part of the answer of AWS that an error of botocore carries, or None."""
    found: Any = getattr(error, "response", None)
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _facts(error: BaseException) -> dict[str, Any]:
    facts = {
        "code": _answered(error, "Error", "Code"),
        "status": _answered(error, "ResponseMetadata", "HTTPStatusCode"),
        "request_id": _answered(error, "ResponseMetadata", "RequestId"),
    }
    return {name: value for name, value in facts.items() if value}
