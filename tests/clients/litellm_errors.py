"""Run in .venv/clients with a server's URL: litellm understands answers and errors. Prints one JSON object."""

import json
import sys
from typing import Any

import litellm
import openai

MODEL = "openai/lmx-guide"


def ask(**fields: Any) -> Any:
    defaults = {"model": MODEL, "api_base": f"{sys.argv[1]}/v1", "api_key": "none", "num_retries": 0}
    return litellm.completion(**defaults | fields)


def fault(**fields: Any) -> str:
    """The class of the exception that litellm makes of the answer."""
    try:
        ask(**fields)
    except openai.OpenAIError as error:
        return type(error).__name__
    return "none"


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


pieces = ask(messages=user("What is lmx?"), temperature=0, max_tokens=20, stream=True)
told = {
    "answer": ask(messages=user("What is lmx?"), temperature=0, max_tokens=20).choices[0].message.content,
    "streamed": "".join(piece.choices[0].delta.content or "" for piece in pieces),
    "context": fault(messages=user("word " * 5000)),
    "max_tokens": fault(messages=user("Hi"), max_tokens=100_000),
    "model": fault(model="openai/nobody", messages=user("Hi")),
    "value": fault(messages=user("Hi"), temperature=9),
}
print(json.dumps(told))
