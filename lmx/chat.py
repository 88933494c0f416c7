"""`lmx chat`: a conversation in the terminal, or one question from a pipe."""

import sys
from collections.abc import Iterator

from lmx.client import Client, ClientError

__all__ = ["converse"]


def converse(client: Client, model: str) -> None:
    """Talk with `model`. From a pipe: all of it is one question, the answer goes to stdout. Raises ClientError."""
    if sys.stdin.isatty():
        _dialogue(client, model)
    elif question := sys.stdin.read().strip():
        _print_answer(client.chat(model, [{"role": "user", "content": question}]))


def _dialogue(client: Client, model: str) -> None:
    import readline  # noqa: F401 - gives input() its line editing

    print(f"Talking with {model}. Ctrl-C stops an answer, Ctrl-D leaves.")
    messages: list[dict[str, str]] = []
    for question in _questions():
        messages.append({"role": "user", "content": question})
        try:
            answer = _print_answer(client.chat(model, messages))
        except ClientError as error:
            print(f"lmx: {error}", file=sys.stderr)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": answer})


def _questions() -> Iterator[str]:
    while True:
        try:
            question = input("> ").strip()
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            print()
            return
        if question:
            yield question


def _print_answer(pieces: Iterator[str]) -> str:
    """Write the answer as it comes and return it; Ctrl-C ends it early, and the server stops working on it."""
    said: list[str] = []
    try:
        for piece in pieces:
            said.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    finally:
        print()
    return "".join(said)
