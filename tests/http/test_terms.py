"""What a request's headers say about who asks, for how long, and whether again."""

from typing import Any

import pytest

from lmx.actors.messages import admission
from lmx.machines.types import FailureKind, RefusalKind
from tests.http.conftest import Serve, Served
from tests.support.dummies import fails, refuses

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


async def asked(served: Served, **headers: str) -> admission.Submit:
    """What admission is told of one request."""
    status, _, answer = await served.post("/v1/chat/completions", BODY, headers=headers)
    assert status == 200, answer
    return served.admission.submits()[-1]


async def test_a_request_without_headers_has_no_terms(served: Served) -> None:
    """Its client is its address; the time is the server's."""
    submit = await asked(served)
    assert (submit.client, submit.seconds, submit.key, submit.retry) == ("127.0.0.1", None, "", False)


async def test_clients_of_one_address_differ_by_their_keys(served: Served) -> None:
    """The key itself is told nobody."""
    names = [(await asked(served, Authorization=f"Bearer {key}")).client for key in ("one", "two", "one")]
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("127.0.0.1 ") for name in names)
    assert "one" not in names[0]
    spelt = [{"Authorization": "bearer  one"}, {"x-api-key": "one"}]
    assert [(await asked(served, **headers)).client for headers in spelt] == [names[0]] * 2, (
        "the same key, spelt otherwise"
    )


@pytest.mark.parametrize(("given", "seconds"), [("1", 1.0), ("2.5", 2.5), ("600", 600.0)])
async def test_a_request_may_say_how_long_it_waits(served: Served, given: str, seconds: float) -> None:
    """In seconds, up to the server's own time."""
    assert (await asked(served, **{"x-request-timeout": given})).seconds == seconds


@pytest.mark.parametrize("given", ["0", "0.9", "601", "-1", "nan", "inf", "soon", "", "1e400", "1" * 5000])
async def test_a_time_that_cannot_be_honoured_is_refused(served: Served, given: str) -> None:
    """With the header's name, and before anything is asked of a model."""
    status, _, answer = await served.post("/v1/chat/completions", BODY, headers={"x-request-timeout": given})
    assert (status, answer["error"]["param"]) == (400, "x-request-timeout")
    assert "from 1 to 600" in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 300
    assert served.admission.submits() == []


async def test_the_longest_time_is_the_servers(serve: Serve) -> None:
    """As it is configured."""
    served = await serve(request_seconds=5.0)
    status, _, _ = await served.post("/v1/chat/completions", BODY, headers={"x-request-timeout": "6"})
    assert status == 400


@pytest.mark.parametrize(
    ("count", "retry"),
    [("0", False), ("1", True), ("2", True), ("many", False), ("-1", False), ("00", False), ("9" * 5000, True)],
)
async def test_an_sdk_says_that_it_sends_a_request_again(served: Served, count: str, retry: bool) -> None:
    """The header that SDKs count their retries in; what is no number is none."""
    submit = await asked(served, **{"x-stainless-retry-count": count, "Idempotency-Key": "k"})
    assert (submit.retry, submit.key) == (retry, "k")


async def test_the_official_client_does(served: Served) -> None:
    """Its second attempt is told as one."""
    served.admission.script = refuses(RefusalKind.QUEUE_FULL, retry_after=0.1)
    with pytest.raises(Exception, match="No"):
        await served.openai.with_options(max_retries=1).chat.completions.create(**_call())
    assert [submit.retry for submit in served.admission.submits()] == [False, True]


async def test_a_key_of_any_length_is_not_kept(served: Served) -> None:
    """It is held as long as the request is: 255 characters are enough."""
    status, _, answer = await served.post("/v1/chat/completions", BODY, headers={"Idempotency-Key": "k" * 256})
    assert (status, answer["error"]["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    "script",
    [refuses(RefusalKind.DUPLICATE), fails(FailureKind.SUPERSEDED, retry=False)],
    ids=["duplicate", "superseded"],
)
async def test_a_duplicate_is_not_to_be_sent_again(served: Served, script: Any) -> None:
    """B100: 409 and x-should-retry: false, for the SDKs retry every 409 that does not say so."""
    served.admission.script = script
    status, headers, answer = await served.post("/v1/chat/completions", BODY)
    assert (status, headers["x-should-retry"]) == (409, "false")
    assert answer["error"]["type"] == "invalid_request_error"


def _call() -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}]}
