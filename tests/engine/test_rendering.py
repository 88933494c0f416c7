"""What templates and tokenizers make of something, without a sequence."""

import tracemalloc
from dataclasses import replace

import pytest

from lmx.backends.base import Info
from lmx.backends.fake import FakeBackend
from lmx.engine import rendering
from lmx.engine.intake import Intake
from lmx.engine.rendering import rendered
from lmx.machines import frames
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, ModelSpec, RefusalKind, Text, Tokens

HI = Chat(({"role": "user", "content": "Hi"},))


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def info(backend: FakeBackend) -> Info:
    made = backend.load(ModelSpec(name="m", path="", backend="fake"), lambda _: True)
    return replace(made, bos=1, chat_template="<{{ messages[0]['content'] }}>")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (Rendering(Text("ab"), "tokens"), frames.Rendered(7, (1, 97, 98))),
        (Rendering(Text("ab"), "tokens", bos=False), frames.Rendered(7, (97, 98))),
        (Rendering(Text(""), "tokens", bos=False), frames.Rendered(7)),
        (Rendering(HI, "tokens"), frames.Rendered(7, tuple(b"<Hi>"))),
        (Rendering(HI, "text"), frames.Rendered(7, text="<Hi>")),
        (Rendering(Tokens((97, 256, 98)), "text"), frames.Rendered(7, text="ab")),
        (Rendering(Tokens(()), "text"), frames.Rendered(7)),
    ],
)
def test_renderings(backend: FakeBackend, info: Info, asked: Rendering, answer: frames.Rendered) -> None:
    """Tokens with or without the first one, the template's text, and a text without its control tokens."""
    assert rendered(Intake(backend, info), frames.Render(7, asked)) == answer


def test_a_text_that_is_too_long_is_not_made_first(backend: FakeBackend, info: Info) -> None:
    """A token may stand for a hundred characters: a body of ids would come to gigabytes in the worker."""
    intake = Intake(backend, replace(info, token_bytes=[b"x" * 1000] * info.vocab))
    asked = frames.Render(7, Rendering(Tokens((97,) * 100_000), "text"))
    tracemalloc.start()
    try:
        rejected = rendered(intake, asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(rejected, frames.Rejected)
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("asked", "template", "param", "text"),
    [
        (Rendering(Tokens((5, 999)), "text"), "", "tokens", "a token id outside 0 … 256"),
        (Rendering(HI, "text"), "", "messages", "no chat template"),
        (Rendering(HI, "tokens"), "", "messages", "no chat template"),
        (Rendering(HI, "text"), "{{ raise_exception('no') }}", "messages", "refuses the messages: no"),
        (Rendering(Text("x" * 30), "tokens"), "", None, "one answer holds 20"),
        (Rendering(Tokens((97,) * 30), "text"), "", None, "more than 20 bytes"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    backend: FakeBackend,
    info: Info,
    monkeypatch: pytest.MonkeyPatch,
    asked: Rendering,
    template: str,
    param: str | None,
    text: str,
) -> None:
    """With a sentence and the field, also what no frame has room for."""
    monkeypatch.setattr(rendering, "MOST_TOKENS", 20)
    monkeypatch.setattr(rendering, "MOST_BYTES", 20)
    rejected = rendered(Intake(backend, replace(info, chat_template=template)), frames.Render(7, asked))
    assert isinstance(rejected, frames.Rejected)
    assert (rejected.seq, rejected.refusal.kind) == (7, RefusalKind.INVALID_PROMPT)
    assert rejected.refusal.param == param
    assert text in rejected.refusal.message
