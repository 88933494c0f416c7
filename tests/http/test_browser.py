"""What a browser may be used for against the server: by which name, from whose pages, with which bodies."""

import asyncio
from typing import Any

import pytest

from lmx.http.browser import Neighbours
from lmx.http.keys import KeyRing
from lmx.http.routes import ROUTES
from tests.http.conftest import Serve, Served

CHAT = "/v1/chat/completions"
HI: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
FRIEND = "https://chat.example"
LOOPBACK = Neighbours(address="127.0.0.1", hosts=frozenset({"lmx.lan"}), origins=frozenset({FRIEND}))
EVERYWHERE = Neighbours(address="0.0.0.0")


@pytest.fixture
async def careful(serve: Serve) -> Served:
    return await serve(neighbours=LOOPBACK)


async def raw(served: Served, head: str) -> bytes:
    """The whole answer to these lines."""
    reader, writer = await served.connect()
    writer.write((head.replace("\n", "\r\n") + "\r\nConnection: close\r\n\r\n").encode())
    return await asyncio.wait_for(reader.read(), 5)


# --- the content type -----------------------------------------------------------------------------------------------

TYPES = [
    ("text/plain", 400),
    ("application/x-www-form-urlencoded", 400),
    ("multipart/form-data; boundary=x", 400),
    ("", 400),
    ("application/json; charset=utf-16", 400),
    ("application/jsonp", 400),
    ("text/plain; application/json", 400),
    ("application/json", 404),
    ("application/json; charset=utf-8", 404),
    ("Application/JSON;charset=UTF-8", 404),
]


@pytest.mark.parametrize(("kind", "status"), TYPES)
async def test_only_json_is_json(careful: Served, kind: str, status: int) -> None:
    """B21, B22, B23: what a page can send without asking first is refused; 404 = it was read, up to the model."""
    headers = {"Content-Type": kind} if kind else {}
    skip = [] if kind else ["Content-Type"]
    body = b'{"model": "nope", "messages": [{"role": "user", "content": "Hi"}]}'
    async with careful.http.post(CHAT, data=body, headers=headers, skip_auto_headers=skip) as reply:
        code = (await reply.json())["error"]["code"]
    assert (reply.status, code) == (status, "unsupported_content_type" if status == 400 else "model_not_found")


# --- the name -------------------------------------------------------------------------------------------------------

HOSTS = [
    ("127.0.0.1", 200, 200),
    ("127.0.0.1:1234", 200, 200),
    ("localhost:1234", 200, 200),
    ("LOCALHOST", 200, 200),
    ("localhost.", 200, 200),
    ("[::1]:1234", 200, 200),
    ("127.1.2.3", 200, 200),
    ("lmx.lan:1234", 200, 421),
    ("LMX.lan", 200, 421),
    ("evil.com", 421, 421),
    ("evil.com:1234", 421, 421),
    ("localhost.evil.com", 421, 421),
    ("127.0.0.1.evil.com", 421, 421),
    ("127.0.0.1.nip.io", 421, 421),
    ("192.168.1.5:1234", 421, 200),
    ("[2001:db8::1]", 421, 200),
    ("evil.com@localhost", 421, 421),
    ("localhost/evil.com", 421, 421),
    ("[::1", 421, 421),
    ("0x7f.1", 421, 421),
]


@pytest.mark.parametrize(("host", "loopback", "everywhere"), HOSTS)
async def test_only_our_names_are_answered(serve: Serve, host: str, loopback: int, everywhere: int) -> None:
    """B61: a name that somebody pointed at us is not ours; any address is, where we listen on all of them."""
    for neighbours, status in ((LOOPBACK, loopback), (EVERYWHERE, everywhere)):
        served = await serve(neighbours=neighbours)
        answer = await raw(served, f"GET /healthz HTTP/1.1\nHost: {host}")
        # What the parser takes for no host at all never gets as far as us.
        assert answer.startswith(f"HTTP/1.1 {status}".encode()) or (status == 421 and b" 400 " in answer[:16])
        assert status == 200 or b'"error"' in answer


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/", "/nope", "/admin/machines", "/metrics"])
async def test_no_route_is_left_out(careful: Served, path: str) -> None:
    """Not the page, nor what is there for probes, nor what does not exist."""
    async with careful.http.get(path, headers={"Host": "evil.com"}) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /healthz HTTP/1.1\nX: y", 400),
        ("GET /healthz HTTP/1.1\nHost: localhost\nHost: localhost", 400),
        ("GET /healthz HTTP/1.1\nHost: localhost\nHost: evil.com", 400),
        ("GET http://evil.com/healthz HTTP/1.1\nHost: localhost", 421),
        ("GET http://localhost/healthz HTTP/1.1\nHost: evil.com", 421),
        ("GET /healthz HTTP/1.0\nX: y", 200),
    ],
)
async def test_one_host_is_named_once(careful: Served, head: str, status: int) -> None:
    """B60, B61: none or two are no HTTP/1.1, two that differ are not ours; HTTP/1.0 has none."""
    answer = await raw(careful, head)
    assert answer.split(b" ", 2)[1] == str(status).encode(), answer


# --- the origin -----------------------------------------------------------------------------------------------------

ORIGINS = [
    (None, 200, None),
    ("http://127.0.0.1:{port}", 200, None),
    (FRIEND, 200, FRIEND),
    ("http://localhost.evil.com", 403, None),
    ("null", 403, None),
    ("", 403, None),
    ("http://127.0.0.1", 403, None),
    ("http://127.0.0.1:{port}.evil.com", 403, None),
    ("http://evil.com@127.0.0.1:{port}", 403, None),
    ("ftp://127.0.0.1:{port}", 403, None),
    (FRIEND + ".evil.com", 403, None),
    ("http://chat.example", 403, None),
    ("HTTPS://chat.example", 403, None),
    (FRIEND + "/", 403, None),
]


@pytest.mark.parametrize(("origin", "status", "allowed"), ORIGINS)
async def test_pages_of_others_may_not_post(
    careful: Served, origin: str | None, status: int, allowed: str | None
) -> None:
    """B95: a foreign origin is 403, and no answer lets its page read anything; no origin is no browser."""
    headers = {} if origin is None else {"Origin": origin.format(port=careful.port)}
    body = {"model": "nope", "messages": HI["messages"]}
    async with careful.http.post(CHAT, json=body, headers=headers) as reply:
        code = (await reply.json())["error"]["code"]
    assert code == ("origin_not_allowed" if status == 403 else "model_not_found")
    assert reply.status == (403 if status == 403 else 404)
    assert reply.headers.get("Access-Control-Allow-Origin") == allowed
    assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
async def test_no_method_that_changes_something_is_forgotten(careful: Served, method: str) -> None:
    async with careful.http.request(method, "/v1/models", headers={"Origin": "null"}) as reply:
        assert reply.status == 403


async def test_pages_of_others_read_nothing(careful: Served) -> None:
    """A GET is answered, but its answer is for our own page only."""
    async with careful.http.get("/v1/models", headers={"Origin": "http://evil.com"}) as reply:
        assert reply.status == 200
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("origin", [FRIEND, "http://evil.com", "null"])
async def test_a_preflight_needs_no_key(serve: Serve, origin: str) -> None:
    """B95: 204 with no data, also where a key is needed: browsers send none; only a listed origin is allowed more."""
    served = await serve(neighbours=LOOPBACK, keys=KeyRing(("sk-0123456789",)))
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with served.http.options(CHAT, headers=asks) as reply:
        assert (reply.status, await reply.read()) == (204, b"")
    got = {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("access-control")}
    if origin != FRIEND:
        assert got == {}
        return
    assert got["access-control-allow-origin"] == FRIEND
    methods = {route.method for route in ROUTES if route.path.startswith("/v1/")}
    assert methods <= set(got["access-control-allow-methods"].split(", "))
    assert got["access-control-allow-headers"] == "authorization, content-type"
    assert "access-control-allow-credentials" not in got


async def test_a_listed_page_may_read_a_refusal(serve: Serve) -> None:
    """Without its header on a 401, a page would only see that something failed."""
    served = await serve(neighbours=LOOPBACK, keys=KeyRing(("sk-0123456789",)))
    async with served.http.post(CHAT, json=HI, headers={"Origin": FRIEND}) as reply:
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (401, FRIEND)
        assert "x-should-retry" in reply.headers["Access-Control-Expose-Headers"], "or its client tries again in vain"


# --- the answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/v1/models", "/nope", "/healthz", "/metrics", "/bad\0path"])
async def test_every_answer_tells_browsers_to_be_careful(careful: Served, path: str) -> None:
    """No guessing of types, no frames, no referrer; errors and what the parser refuses included."""
    head = (await raw(careful, f"GET {path} HTTP/1.1\nHost: localhost")).partition(b"\r\n\r\n")[0].lower()
    for line in (b"x-content-type-options: nosniff", b"x-frame-options: deny", b"referrer-policy: no-referrer"):
        assert head.count(line) == 1, head
    assert (b"content-security-policy: default-src 'none'" in head) == (path in ("/", "/static/app.js"))
