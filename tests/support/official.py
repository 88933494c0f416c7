"""OpenAI's own client, as strict as it can be about what it is told."""

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.support.server import Server


def strict(server: Server) -> openai.OpenAI:
    """It tries nothing twice, and raises where a reply is not what its types say."""
    return openai.OpenAI(
        base_url=server.url + "/v1", api_key="any-key", max_retries=0, _strict_response_validation=True
    )


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]
