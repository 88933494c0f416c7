"""HTTP calls to a running server, for the command line. Standard library only: commands start fast."""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

__all__ = ["UNREACHABLE", "Client", "ClientError"]

UNREACHABLE = 69
SILENCE_SECONDS = 60.0
"""A server that sends nothing for so long is taken for gone; its streams carry a heartbeat every second."""
SETTLE_SECONDS = 660.0
"""Loading answers at its end; the server gives up after ten minutes."""
SETTLED = ("model", "state")
KEYLESS = "Commands send LMX_API_KEY, or else what keys.admin and keys.inference are in the config."

Message = Mapping[str, str]


class ClientError(Exception):
    """A call did not work. The message is one sentence, `code` the exit code of the command."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Calls one server; a connection per call. Every method raises ClientError."""

    def __init__(self, url: str, key: str = "", admin_key: str = "") -> None:
        """`key` goes to /v1, `admin_key` to /admin; empty = none is sent."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise ClientError(f"--url is {url}, expected something like http://127.0.0.1:1234.", 64)
        self.url = url
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address = (parts.hostname, port)
        self._keys = (key, admin_key)
        self._prefix = parts.path.rstrip("/")

    def machines(self) -> dict[str, Any]:
        """GET /admin/machines: every actor's machine and the latest transitions."""
        return self._json("GET", "/admin/machines", ("machines",))

    def models(self) -> list[str]:
        """The ids of /v1/models, the default model first; one at least."""
        models = [str(model["id"]) for model in self._json("GET", "/v1/models", ("data",))["data"]]
        if not models:
            raise ClientError(f"{self.url} offers no model.")
        return models

    def load(self, model: str) -> dict[str, Any]:
        """Waits until the model is ready; {"model", "state"}."""
        return self._json("POST", f"/admin/models/{quote(model, safe='')}/load", SETTLED, SETTLE_SECONDS)

    def unload(self, model: str) -> dict[str, Any]:
        """Waits until the model's memory is free; {"model", "state"}."""
        return self._json("POST", f"/admin/models/{quote(model, safe='')}/unload", SETTLED, SETTLE_SECONDS)

    def adapt(self, model: str, adapters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Waits until the model runs with these adapters ({"path", "scale"}) and no others; {"model", "state"}."""
        body = {"adapters": list(adapters)}
        return self._json("POST", f"/admin/models/{quote(model, safe='')}/adapters", SETTLED, SETTLE_SECONDS, body)

    def swap(self, alias: str, model: str) -> dict[str, Any]:
        """Waits until the alias means the model, which has answered its canary by then; {"alias", "model", "state"}."""
        return self._json("POST", f"/admin/aliases/{quote(alias, safe='')}", SETTLED, SETTLE_SECONDS, {"model": model})

    def chaos(self, what: str, of: str) -> dict[str, Any]:
        """Break something on purpose, where that is allowed; {"done"}."""
        return self._json("POST", f"/admin/chaos/{quote(what, safe='')}", ("done",), body={"of": of})

    def chat(self, model: str, messages: Sequence[Message]) -> Iterator[str]:
        """The pieces of the answer as they come; closing the iterator cancels the request."""
        body = {"model": model, "messages": list(messages), "stream": True}
        with self._call("POST", "/v1/chat/completions", body) as response:
            for event in _events(response):
                if error := event.get("error"):
                    raise ClientError(_sentence(str(error.get("message", error))))
                for choice in event.get("choices", ()):
                    if text := choice.get("delta", {}).get("content"):
                        yield text

    def _json(
        self,
        method: str,
        path: str,
        wanted: Sequence[str],
        timeout: float = SILENCE_SECONDS,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """An object with all that is `wanted`: other servers answer 200 to what they do not know."""
        with self._call(method, path, body, timeout) as response:
            content = response.read()
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.keys() >= set(wanted):
            what = f"{path} is no JSON object with {' and '.join(wanted)}"
            raise ClientError(f"What answers at {self.url} is not lmx: {what}.")
        return answer

    @contextmanager
    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float = SILENCE_SECONDS
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._kind(*self._address, timeout=timeout)
        headers = {"Content-Type": "application/json"}
        if key := self._keys[path.startswith("/admin/")]:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, self._prefix + path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise _refused(response)
            yield response
        except ConnectionRefusedError:
            message = f"No server answers at {self.url}: start one with `lmx serve`, or give its address with --url."
            raise ClientError(message, UNREACHABLE) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ClientError(f"The connection to {self.url} failed: {_sentence(reason)}", UNREACHABLE) from None
        finally:
            connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of every `data:` line up to [DONE]; an end without it is a broken connection."""
    while line := response.readline():
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if line.startswith(b"data:"):
            yield json.loads(data)
    raise http.client.IncompleteRead(b"")


def _refused(response: http.client.HTTPResponse) -> ClientError:
    """From OpenAI's error envelope, or from the bare status when something else answered."""
    try:
        message = str(json.loads(response.read())["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = f"The server answered {response.status} {response.reason}"
    advice = f" {KEYLESS}" if response.status == http.client.UNAUTHORIZED else ""
    return ClientError(_sentence(message) + advice)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
