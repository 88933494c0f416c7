"""The Backend protocol for every backend: loading, text and tokens."""

import threading
from pathlib import Path

import pytest

from lmx.backends.base import LoadAborted, LoadError
from lmx.backends.registry import open_backend
from lmx.machines.types import ModelSpec
from tests.support import models
from tests.support.contract import CONTEXT, SLOTS, Case, Loaded, go_on, model_spec, spec, stop

# What load tells


def test_info_describes_the_model(loaded: Loaded) -> None:
    """Info gives context and slots as asked for, the end tokens, the chat template, the vocabulary's bytes."""
    info = loaded.info
    end = {models.vocabulary().index(models.IM_END)}
    assert (info.context, info.slots) == (CONTEXT, SLOTS)
    assert end <= info.eos
    assert info.chat_template == models.CHAT
    assert info.weights_bytes > 100_000
    assert info.vocab == len(models.vocabulary())
    assert (info.bos, info.bos_text, info.eos_text) == (None, models.END_OF_TEXT, models.IM_END)


def test_context_is_bounded_by_the_model(case: Case) -> None:
    """A context beyond the one the model was trained with is cut to that."""
    backend = open_backend(case.name)
    info = backend.load(model_spec(case, context=10 * models.TRAINED_CONTEXT, slots=1), go_on)
    backend.close()
    assert info.context == models.TRAINED_CONTEXT


def test_progress_rises_to_one(case: Case) -> None:
    """`progress` hears of the load, never backwards, within 0..1, and of its end."""
    heard: list[float] = []

    def progress(fraction: float) -> bool:
        heard.append(fraction)
        return True

    backend = open_backend(case.name)
    backend.load(model_spec(case), progress)
    backend.close()
    assert heard == sorted(heard)
    assert heard[0] >= 0
    assert heard[-1] == pytest.approx(1)


def test_load_can_be_aborted(case: Case) -> None:
    """`progress` returning False ends the load with LoadAborted; the backend can be closed."""
    backend = open_backend(case.name)
    with pytest.raises(LoadAborted):
        backend.load(model_spec(case), stop)
    backend.close()


@pytest.mark.parametrize("content", [None, b"", b"no model at all, " * 100])
def test_files_that_are_no_model_are_refused(case: Case, tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or foreign file is a LoadError that names it."""
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    backend = open_backend(case.name)
    with pytest.raises(LoadError, match=str(path)):
        backend.load(ModelSpec(name="none", path=str(path), backend=case.name), go_on)
    backend.close()


def test_warm_up_leaves_nothing_behind(loaded: Loaded) -> None:
    """warm_up computes, but what follows is as if it had not been."""
    before = loaded.tokens(spec(0, 20))
    loaded.backend.warm_up()
    stats = loaded.backend.stats()
    assert (stats.running, stats.kv_used) == (0, 0)
    assert loaded.tokens(spec(0, 20)) == before


# Text and tokens


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello world",
        " two  spaces ",
        "日本語のテキスト",
        "👩‍👩‍👧 ünïcödé\u0301",
        "tab\tnew\nline\r\n",
        "nul\0bell\a\x7f",
    ],
)
def test_encode_round_trip(loaded: Loaded, text: str) -> None:
    """The bytes of the tokens of a text are the text, whatever characters it is made of."""
    ids = loaded.backend.encode(text, special=False)
    assert b"".join(loaded.info.token_bytes[token] for token in ids) == text.encode()


def test_control_tokens_count_only_when_asked(loaded: Loaded) -> None:
    """With `special` a control token written in the text is that token, else plain text; it adds no bytes."""
    end = models.vocabulary().index(models.IM_END)
    assert loaded.backend.encode(f"a{models.IM_END}b", special=True).count(end) == 1
    plain = loaded.backend.encode(f"a{models.IM_END}b", special=False)
    assert end not in plain
    assert b"".join(loaded.info.token_bytes[token] for token in plain) == f"a{models.IM_END}b".encode()
    assert loaded.info.token_bytes[end] == b""


def test_encode_adds_nothing(loaded: Loaded) -> None:
    """No BOS or EOS is put around a text."""
    assert loaded.backend.encode("", special=True) == []
    assert len(loaded.backend.encode("hello world", special=True)) == 2


def test_encode_from_another_thread(loaded: Loaded) -> None:
    """The intake thread may encode while steps run; neither disturbs the other."""
    texts = [f"text {n} 日本 " * 20 for n in range(50)]
    expected = [loaded.backend.encode(text, special=True) for text in texts]
    alone = loaded.tokens(spec(0, 40))
    results: list[list[int]] = []
    thread = threading.Thread(target=lambda: results.extend(loaded.backend.encode(t, special=True) for t in texts))
    thread.start()
    together = loaded.tokens(spec(0, 40))
    thread.join()
    assert results == expected
    assert together == alone
