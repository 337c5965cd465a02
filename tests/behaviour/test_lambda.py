"""Steps that call functions on AWS Lambda: against moto, and against a server that misbehaves."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.moto_api._internal import moto_api_backend

from oautom import (
    Flow,
    FlowError,
    LambdaExecution,
    NotInvokedError,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    StepError,
)

REGION = "eu-west-1"
ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the tests an environment that does not depend on the machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


# Against moto


@pytest.fixture
def moto() -> Iterator[None]:
    with mock_aws(config={"lambda": {"use_docker": False}}):
        trust = '{"Version": "2012-10-17", "Statement": []}'
        role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=trust)
        boto3.client("lambda").create_function(
            FunctionName="resize",
            Runtime="python3.11",
            Role=role["Role"]["Arn"],
            Handler="main.handler",
            Code={"ZipFile": b"nothing"},
        )
        yield


def test_the_answer_of_the_function_is_the_output(moto: None) -> None:
    moto_api_backend.set_lambda_simple_result('{"width": 30}', ACCOUNT, REGION)
    with OAutom() as app:
        flow = Flow("flow", app)
        resize = LambdaExecution("resize", flow, "resize", {"image": "a.png"})
        width = PythonExecution("width", flow, lambda width: width * 2, (resize.output["width"],))
        vect = app.run(flow)
        assert vect.result(resize) == {"width": 30}
        assert vect.result(width) == 60


def test_the_payload_has_outputs_and_parameters_at_any_depth(moto: None) -> None:
    with OAutom() as app:  # without a result that was set, the function returns its payload
        flow = Flow("flow", app, params={"day": date})
        sizes = PythonExecution("sizes", flow, lambda: {"small": 10})
        payload = {"on": flow.param("day"), "to": [1, {"size": sizes.output["small"]}], "of": sizes}
        echo = LambdaExecution("echo", flow, "resize", payload)
        vect = app.run(flow, {"day": "2026-12-01"})
        assert vect.result(echo) == {
            "on": "2026-12-01",
            "to": [1, {"size": 10}],
            "of": {"small": 10},
        }


def test_without_a_payload_the_function_gets_an_empty_object(moto: None) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        echo = LambdaExecution("echo", flow, "resize")
        assert app.run(flow).result(echo) == {}


def test_a_payload_by_reference_is_in_s3_only_while_the_function_runs(moto: None) -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="payloads", CreateBucketConfiguration={"LocationConstraint": REGION})
    seen = []

    class Reading:
        """A client whose function reads its payload."""

        def invoke(self, *, Payload: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803
            bucket, key = json.loads(Payload)["s3"]
            seen.append((bucket, key, json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])))
            return boto3.client("lambda").invoke(FunctionName="resize", Payload=Payload)

    with OAutom() as app:
        flow = Flow("a/b", app)
        text = PythonExecution("text", flow, lambda: "x" * 7_000_000)
        step = LambdaExecution(
            "big one", flow, "resize", {"text": text}, bucket="payloads", client=Reading()
        )
        assert app.run(flow, vect_id="v").result(step)["s3"][0] == "payloads"
    ((bucket, key, payload),) = seen
    assert bucket == "payloads"
    assert key.startswith("oautom/a%2Fb/v/big%20one/1-")
    assert payload == {"text": "x" * 7_000_000}
    assert "Contents" not in s3.list_objects_v2(Bucket="payloads")


def test_a_bucket_that_does_not_exist_means_that_the_function_was_not_called(moto: None) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "resize", {}, bucket="nowhere-at-all")
        moto_api_backend.set_lambda_simple_result('"for the next call"', ACCOUNT, REGION)
        step = app.run(flow).steps["step"]
        assert "function 'resize' was not called" in step.error
        assert "NoSuchBucket" in step.error
        after = LambdaExecution("after", Flow("after", app), "resize")
        assert app.run("after").result(after) == "for the next call"


def test_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with OAutom() as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "resize")
        step = app.run(flow).steps["step"]
    assert "function 'resize' was not called" in step.error
    assert "AWS_ACCESS_KEY_ID" in step.error


def test_there_is_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with OAutom() as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "resize")
        assert "give the step a region=" in app.run(flow).steps["step"].error


# Against a server of our own


Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Speaks the part of the API of Lambda that invokes a function, as each test wants it."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    has_come: threading.Event = field(default_factory=threading.Event)

    def client(self, **config: Any) -> Any:
        return boto3.client("lambda", endpoint_url=self.url, config=Config(**config))

    def custom(self, number: int) -> dict[str, str]:
        """Return what the function can read of its step in a request."""
        header = self.requests[number][1]["x-amz-client-context"]
        return json.loads(base64.b64decode(header))["custom"]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {key.lower(): value for key, value in self.headers.items()}
            made.requests.append((self.path, headers, body))
            reply = made.replies.pop(0) if made.replies else answer("1")
            made.has_come.set()
            reply(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        made.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.is_over.set()
        http.shutdown()
        thread.join()


def answer(body: str, status: int = 200, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return reply


def refusal(status: int, code: str, message: str) -> Reply:
    return answer(json.dumps({"Message": message}), status, X_Amzn_Errortype=code)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection before the answer."""
    handler.close_connection = True
    handler.connection.close()


def cut_in_the_answer(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"half')
    handler.close_connection = True


def run(server: Server, client: Any = None, **options: Any):
    with OAutom() as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "work", {"n": 1}, client=client or server.client, **options)
        return app.run(flow, vect_id="v")


def failure_of(vect: Any) -> Any:
    return [event.data for event in vect.events() if event.name == "step.failed"][-1]


def test_what_a_call_sends(server: Server) -> None:
    tail = base64.b64encode(b"START\nhello\nEND\n").decode()
    server.replies += [answer('"well"', X_Amz_Log_Result=tail)]
    vect = run(server, qualifier="live")
    assert vect.result("step") == "well"
    assert vect.steps["step"].log_text == "START\nhello\nEND\n"
    ((path, headers, body),) = server.requests
    assert path == "/2015-03-31/functions/work/invocations?Qualifier=live"
    assert json.loads(body) == {"n": 1}
    assert headers["x-amz-log-type"] == "Tail"
    assert headers.get("x-amz-invocation-type", "RequestResponse") == "RequestResponse"
    custom = server.custom(0)
    assert len(custom.pop("oautom_key")) == 64
    assert custom == {
        "oautom_attempt": "1",
        "oautom_flow": "flow",
        "oautom_vect": "v",
        "oautom_step": "step",
    }


def test_an_error_that_the_function_reports_fails_the_step(server: Server) -> None:
    report = {
        "errorType": "ValueError",
        "errorMessage": "no such image",
        "stackTrace": ["line 1", "line 2"],
        "message": "a key that Python functions use, too",
    }
    server.replies += [answer(json.dumps(report), X_Amz_Function_Error="Unhandled")]
    vect = run(server)
    failed = failure_of(vect)
    assert failed["error"] == "function 'work' failed: ValueError: no such image"
    assert failed["details"] == {**report, "function_error": "Unhandled"}


@pytest.mark.parametrize("report", ["it is broken", '"it is broken"', '["it is broken"]'])
def test_an_error_that_is_reported_in_another_form(server: Server, report: str) -> None:
    server.replies += [answer(report, X_Amz_Function_Error="Handled")]
    failed = failure_of(run(server))
    assert "it is broken" in failed["error"]
    assert "it is broken" in str(failed["details"]["report"])


@pytest.mark.parametrize("body", ["<html>", "{", "NaN", "1 2"])
def test_an_answer_that_is_no_json_fails_the_step(server: Server, body: str) -> None:
    server.replies += [answer(body)]
    assert "the answer of function 'work' is no JSON" in failure_of(run(server))["error"]


def test_an_empty_answer_is_none(server: Server) -> None:
    server.replies += [answer("")]
    vect = run(server)
    assert (vect.state, vect.result("step")) == ("success", None)


THROTTLED = refusal(429, "TooManyRequestsException", "Rate Exceeded.")


def test_a_throttled_call_is_tried_again_by_the_policy_of_the_step_alone(server: Server) -> None:
    server.replies += [THROTTLED, THROTTLED, answer("7")]
    thrice = RetryPolicy(max_attempts=3, delay=0, retry_on=(NotInvokedError,))
    vect = run(server, retry=thrice)
    assert vect.result("step") == 7
    assert [event.name for event in vect.events()].count("step.started") == 3
    assert len(server.requests) == 3
    customs = [server.custom(number) for number in range(3)]
    assert [each["oautom_attempt"] for each in customs] == ["1", "2", "3"]
    assert len({each["oautom_key"] for each in customs}) == 1


MISHAPS = {
    "a failure of AWS": refusal(500, "ServiceException", "Internal"),
    "a gateway": answer("<html>bad gateway</html>", 502),
    "no answer": cut,
    "half an answer": cut_in_the_answer,
}


@pytest.mark.parametrize("mishap", MISHAPS.values(), ids=MISHAPS)
@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_a_call_that_may_have_run_is_never_repeated_within_an_attempt(
    server: Server, mishap: Reply, mode: str
) -> None:
    server.replies += [mishap]
    client = server.client(retries={"mode": mode, "max_attempts": 5})
    vect = run(server, client, retry=RetryPolicy(delay=0, retry_on=(NotInvokedError,)))
    assert "function 'work' may have run, or go on" in failure_of(vect)["error"]
    assert len(server.requests) == 1


def test_a_client_repeats_the_calls_that_are_not_of_a_step(server: Server) -> None:
    client = server.client(retries={"mode": "standard", "max_attempts": 2})
    run(server, client)
    server.replies += [refusal(500, "ServiceException", "Internal"), answer("2")]
    assert client.invoke(FunctionName="mine")["Payload"].read() == b"2"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDeniedException"), (413, "RequestTooLargeException")]
)
def test_a_refused_call_has_called_nothing(server: Server, status: int, code: str) -> None:
    server.replies += [refusal(status, code, "no")]
    vect = run(server, retry=RetryPolicy(delay=0, retry_on=(NotInvokedError,)))
    assert vect.state == "success"
    (retried,) = [event for event in vect.events() if event.name == "step.retried"]
    assert f"function 'work' was not called: An error occurred ({code})" in retried.data["error"]


def test_a_function_that_does_not_exist(server: Server) -> None:
    server.replies += [refusal(404, "ResourceNotFoundException", "Function not found: work")]
    failed = failure_of(run(server))
    assert "function 'work' was not called" in failed["error"]
    assert "look at its name, its qualifier, and its region" in failed["error"]
    assert failed["details"] == {"code": "ResourceNotFoundException", "status": 404}


def test_nobody_listens(server: Server) -> None:
    client = boto3.client("lambda", endpoint_url="http://127.0.0.1:1")
    failed = failure_of(run(server, client))
    assert "function 'work' was not called: Could not connect" in failed["error"]


def test_the_read_timeout_of_a_client_is_over(server: Server) -> None:
    server.replies += [lambda _: server.is_over.wait(20)]
    vect = run(server, server.client(read_timeout=0.1, retries={"max_attempts": 3}))
    assert "may have run, or go on" in failure_of(vect)["error"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_timeout_ends_the_step_and_not_the_function(server: Server, executor: Any) -> None:
    server.replies += [lambda _: server.is_over.wait(20), answer("2")]
    with OAutom(executor=executor) as app:
        flow = Flow("flow", app)
        twice = RetryPolicy(max_attempts=2, delay=0)
        client = server.client()  # to make one takes its time
        LambdaExecution("step", flow, "work", client=client, timeout=1.5, retry=twice)
        vect = app.run(flow)
    assert vect.result("step") == 2
    (retried,) = [event for event in vect.events() if event.name == "step.retried"]
    assert "took longer than its timeout" in retried.data["error"]
    assert "abandoned" not in retried.data
    assert len(server.requests) == 2


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_a_cancel_ends_the_step_at_once(server: Server, executor: Any) -> None:
    server.replies += [lambda _: server.is_over.wait(20)]
    with OAutom(OAutomMode.background, executor=executor) as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "work", client=server.client)
        vect = app.start(flow)
        assert server.has_come.wait(20)
        vect.cancel("enough")
        assert vect.wait(10) == "cancelled"
        assert not server.is_over.is_set()
        (late,) = [event for event in vect.events() if event.name == "step.late_result"]
        assert "function 'work' may go on at AWS" in late.data["error"]


def test_a_step_that_is_cancelled_before_its_call_calls_nothing(server: Server) -> None:
    class Slow:
        """An S3 whose objects take their time."""

        begun, deleted = threading.Event(), threading.Event()

        def put_object(self, **_: object) -> None:
            self.begun.set()
            while not cancelled.wait(20):
                continue

        def delete_object(self, **_: object) -> None:
            self.deleted.set()

    cancelled, s3 = threading.Event(), Slow()
    with OAutom(OAutomMode.background) as app:
        flow = Flow("flow", app)
        LambdaExecution("step", flow, "work", bucket="b", client=server.client, s3=s3)
        vect = app.start(flow)
        assert s3.begun.wait(20)
        vect.cancel()
        assert vect.wait(20) == "cancelled"
        cancelled.set()
        assert s3.deleted.wait(20)
    assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "is_deleted"),
    [
        (refusal(429, "TooManyRequestsException", "no"), True),
        (answer("{}", X_Amz_Function_Error="Unhandled"), True),
        (answer("no json"), True),
        (refusal(500, "ServiceException", "perhaps"), False),
        (cut, False),
        (cut_in_the_answer, False),
    ],
    ids=["refused", "failed", "no json", "a failure of AWS", "cut", "cut in the answer"],
)
def test_a_payload_stays_as_long_as_a_function_may_read_it(
    server: Server, reply: Reply, *, is_deleted: bool
) -> None:
    class Bucket:
        """An S3 that knows which objects it has."""

        keys: set[str] = set()

        def put_object(self, *, Key: str, **_: object) -> None:  # noqa: N803
            self.keys.add(Key)

        def delete_object(self, *, Key: str, **_: object) -> None:  # noqa: N803
            self.keys.remove(Key)

    server.replies += [reply]
    Bucket.keys.clear()
    assert run(server, bucket="b", s3=Bucket()).state == "failed"
    assert (Bucket.keys == set()) is is_deleted


def test_an_object_that_cannot_be_deleted_fails_no_step(server: Server) -> None:
    class Stuck:
        def put_object(self, **_: object) -> None:
            """Write nothing."""

        def delete_object(self, **_: object) -> None:
            raise PermissionError("read only")

    vect = run(server, bucket="b", s3=Stuck())
    assert vect.result("step") == 1
    assert (
        "WARNING its payload is left in S3, at oautom/flow/v/step/1-" in vect.steps["step"].log_text
    )


def test_the_steps_of_a_flow_share_a_client(server: Server) -> None:
    made = []

    def make() -> Any:
        made.append(server.client())
        return made[-1]

    with OAutom() as app:
        flow = Flow("flow", app)
        for number in range(10):
            LambdaExecution(f"step {number}", flow, "work", client=make)
        assert app.run(flow).state == "success"
    assert len(made) == 1


def test_programs_with_a_log_in_memory_do_not_take_each_other_for_a_repeat(server: Server) -> None:
    run(server)
    run(server)
    assert server.custom(0)["oautom_key"] != server.custom(1)["oautom_key"]


def test_a_later_life_of_a_log_is_recognised_as_a_repeat(server: Server, tmp_path: Path) -> None:
    server.replies += [refusal(500, "ServiceException", "Internal")]
    for _ in range(2):
        with OAutom(log=tmp_path / "runs.db") as app:
            flow = Flow("flow", app)
            LambdaExecution("step", flow, "work", client=server.client)
            known = app.vects(flow)
            vect = known[0] if known else app.run(flow, vect_id="v")
            if known:
                vect.retry()
                assert vect.wait(20) == "success"
    one, other = server.custom(0), server.custom(1)
    assert one["oautom_key"] == other["oautom_key"]
    assert (one["oautom_attempt"], other["oautom_attempt"]) == ("1", "2")


def test_long_names_fit_what_aws_takes(server: Server) -> None:
    with OAutom() as app:
        flow = Flow("ß" * 10_000, app)
        LambdaExecution("step", flow, "work", client=server.client)
        assert app.run(flow, vect_id="é" * 10_000).state == "success"
    assert len(server.requests[0][1]["x-amz-client-context"]) <= 3583
    assert set(server.custom(0)) == {"oautom_key", "oautom_attempt"}


def test_what_a_function_that_makes_a_client_raises_is_the_error_of_the_step(
    server: Server,
) -> None:
    def make() -> Any:
        raise LookupError("the vault is closed")

    assert failure_of(run(server, make))["error"] == "LookupError: the vault is closed"
    assert "its function makes 3" in failure_of(run(server, lambda: 3))["error"]


def test_a_payload_that_is_too_large_says_how_to_send_it(server: Server) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        text = PythonExecution("text", flow, lambda: "x" * 7_000_000)
        LambdaExecution("step", flow, "work", [text], client=server.client)
        step = app.run(flow).steps["step"]
        assert "7000004 bytes" in step.error
        assert "give bucket=..." in step.error
        with pytest.raises(FlowError, match="give bucket="):
            LambdaExecution("other", Flow("other", app), "work", "x" * 7_000_000)
    assert server.requests == []


def test_an_output_that_json_cannot_represent_is_no_payload(server: Server) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        opaque = PythonExecution("opaque", flow, lambda: object())
        LambdaExecution("step", flow, "work", {"it": opaque}, client=server.client)
        step = app.run(flow).steps["step"]
        assert "its payload cannot be sent" in step.error


WRONG = {
    "function_name must be text": {"function_name": 3},
    "function_name must not be blank": {"function_name": " "},
    "payload cannot be sent": {"payload": {"it": object()}},
    "qualifier must be text": {"qualifier": 3},
    "region must be text": {"region": b"eu-west-1"},
    "bucket must be text": {"bucket": Path("payloads")},
    "client must be a boto3 client of Lambda, or a function that makes one": {"client": 3},
    "s3 must be a boto3 client of S3": {"s3": 3, "bucket": "payloads"},
    "s3 is used with a bucket only": {"s3": boto3.client},
    "its clients have a region already": {"client": boto3.client, "region": "eu-west-1"},
}


@pytest.mark.parametrize(("message", "arguments"), WRONG.items(), ids=WRONG)
def test_arguments_that_cannot_be_used(message: str, arguments: dict[str, Any]) -> None:
    with OAutom() as app, pytest.raises(FlowError, match=message) as raised:
        LambdaExecution("step", Flow("flow", app), **({"function_name": "work"} | arguments))
    assert (raised.value.flow, raised.value.step) == ("flow", "step")


def test_without_boto3_the_step_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with OAutom() as app:
        flow = Flow("flow", app)
        with pytest.raises(FlowError, match=r"needs boto3: pip install 'oautom\[aws\]'"):
            LambdaExecution("step", flow, "work")
        LambdaExecution("given", flow, "work", client=lambda: None)


def test_a_program_that_declares_such_a_step_has_not_imported_boto3_yet() -> None:
    program = (
        "import sys, oautom\n"
        "oautom.LambdaExecution('step', oautom.Flow('flow', oautom.OAutom()), 'work')\n"
        "print({'boto3', 'botocore'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_an_error_of_a_call_is_an_error_of_a_step() -> None:
    assert issubclass(NotInvokedError, StepError)
