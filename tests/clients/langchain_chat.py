"""Run in .venv/clients with a server's URL: langchain-openai's structured output and embeddings. Prints JSON."""

import json
import sys
from typing import Literal

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

URL = f"{sys.argv[1]}/v1"
KEY = SecretStr("none")


class Verdict(BaseModel):
    """What somebody thinks of a server."""

    mood: Literal["good", "bad"]
    stars: int


chat = ChatOpenAI(model="lmx-guide", base_url=URL, api_key=KEY, temperature=0, max_retries=0, max_completion_tokens=200)
by_schema = chat.with_structured_output(Verdict, method="json_schema").invoke("Do you like lmx?")
by_call = chat.with_structured_output(Verdict, method="function_calling").invoke("Do you like lmx?")
# Token ids of OpenAI's own vocabulary would mean nothing here.
embeddings = OpenAIEmbeddings(model="lmx-guide", base_url=URL, api_key=KEY, check_embedding_ctx_length=False)
vectors = embeddings.embed_documents(["one", "two"])
assert isinstance(by_schema, Verdict)
assert isinstance(by_call, Verdict)
told = {
    "schema": by_schema.model_dump(),
    "call": by_call.model_dump(),
    "embeddings": [len(vector) for vector in vectors],
    "difference": max(abs(one - other) for one, other in zip(embeddings.embed_query("one"), vectors[0], strict=True)),
    "streamed": "".join(str(piece.content) for piece in chat.stream("What is lmx?")),
}
print(json.dumps(told))
