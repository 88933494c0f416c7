"""Images in a prompt, through llama.cpp's projector: the same as the library's own loop, and known again."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import llama_cpp as lib
from llama_cpp import mtmd_cpp as mtmd

from lmx.backends.base import LoadError, Reuse, SeqSpec
from lmx.backends.llama_cpp import LlamaCppBackend
from lmx.backends.pictures import IMAGE_IDS, Picture, PictureError
from lmx.machines.types import ModelSpec, Sampling
from tests.support import guide
from tests.support.contract import go_on
from tests.support.gguf_driver import GREEDY, Driven
from tests.support.projector import TOKENS, png, write_projector

COUNT = 12


@pytest.fixture(scope="module")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("projector") / "mmproj.gguf")


def spec(projector: Path) -> ModelSpec:
    return ModelSpec(
        name="eyes", path=str(guide.GGUF), backend="llama_cpp", context=512, slots=3, mmproj=str(projector)
    )


@pytest.fixture(scope="module")
def eyes(projector: Path) -> Iterator[Driven]:
    backend = LlamaCppBackend()
    yield Driven(backend, backend.load(spec(projector), go_on))
    backend.close()


def look(eyes: Driven, image: bytes) -> Picture:
    assert eyes.info.look is not None
    return eyes.info.look(image)


def about(eyes: Driven, seq: int, image: bytes, reuse: Reuse | None = None, sampling: Sampling = GREEDY) -> SeqSpec:
    picture = look(eyes, image)
    encode = eyes.backend.encode
    prompt = [*encode("Look at ", special=True), *picture.tokens, *encode(" and answer:", special=True)]
    tiles = {tile.ids[0]: tile for tile in picture.tiles}
    return SeqSpec(seq, prompt, COUNT, sampling, tiles=tiles, reuse=reuse)


def bare(projector: Path, image: bytes) -> list[int]:
    """What the library's own helper makes of the same prompt, greedily."""
    model = lib.llama_model_load_from_file(str(guide.GGUF).encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.flash_attn_type = 512, 512, 0
    context = lib.llama_init_from_model(model, params)
    options = mtmd.mtmd_context_params_default()
    options.use_gpu, options.warmup = False, False
    seeing = mtmd.mtmd_init_from_file(str(projector).encode(), model, options)
    bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(seeing, (ctypes.c_uint8 * len(image))(*image), len(image), False)
    chunks, prompt = mtmd.mtmd_input_chunks_init(), b"Look at " + mtmd.mtmd_get_marker(seeing) + b" and answer:"
    text = mtmd.mtmd_input_text(text=prompt, text_len=len(prompt), add_special=False, parse_special=True)
    assert not mtmd.mtmd_tokenize(seeing, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1)
    past = ctypes.c_int32()
    assert not mtmd.mtmd_helper_eval_chunks(seeing, context, chunks, 0, 0, 512, True, ctypes.byref(past))
    said: list[int] = []
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    for _ in range(COUNT):
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (vocab,))
        said.append(int(logits.argmax()))
        token = (ctypes.c_int32 * 1)(said[-1])
        assert not lib.llama_decode(context, lib.llama_batch_get_one(token, 1))
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(seeing)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return said


def test_the_model_reads_what_the_library_reads(eyes: Driven, projector: Path) -> None:
    """Greedy tokens after text, image, text are those of llama.cpp's own helper; another image gives others."""
    said = eyes.run(about(eyes, 1, png(1)))[1]
    eyes.backend.drop(eyes.kept.pop(1))
    assert said == bare(projector, png(1))
    other = eyes.run(about(eyes, 2, png(2)))[2]
    eyes.backend.drop(eyes.kept.pop(2))
    assert other != said


def test_an_image_has_numbers_of_its_own(eyes: Driven) -> None:
    """The same file has the same ids, so that it is known again; no id is a token's; another file has others."""
    first, again, other = look(eyes, png(3)), look(eyes, png(3)), look(eyes, png(4))
    assert first.tokens == again.tokens
    ids = [token for token in first.tokens if token >= IMAGE_IDS]
    assert len(ids) == TOKENS
    assert not set(ids) & set(other.tokens)


def test_neighbours_do_not_notice(eyes: Driven) -> None:
    """Beside a sequence that reads an image, others say what they say alone."""
    prompt = eyes.backend.encode("What is a slot?", special=True)
    alone = eyes.says(prompt, COUNT)
    both = eyes.run(about(eyes, 5, png(5)), SeqSpec(6, prompt, COUNT, GREEDY))
    for seq in (5, 6):
        eyes.backend.drop(eyes.kept.pop(seq))
    assert both[6] == alone


def test_a_known_image_is_not_read_again(eyes: Driven) -> None:
    """A prompt that begins with the same image goes on behind it, and says the same."""
    asked = about(eyes, 7, png(7))
    first = eyes.run(asked)[7]
    handle = eyes.kept.pop(7)
    known = len(asked.prompt) - 2
    again = eyes.run(about(eyes, 8, png(7), Reuse(handle, known)))[8]
    eyes.backend.drop(eyes.kept.pop(8))
    assert again == first
    assert next(event for event in eyes.events if event.seq == 8).cached == known  # type: ignore[union-attr]


def test_penalties_count_tokens_only(eyes: Driven) -> None:
    """What stands for an image is no token that could be repeated."""
    sampling = Sampling(temperature=0, repetition_penalty=1.3, frequency_penalty=0.5, dry_multiplier=0.8)
    assert len(eyes.run(about(eyes, 9, png(9), sampling=sampling))[9]) > 0
    eyes.backend.drop(eyes.kept.pop(9))


def test_what_is_no_image_is_refused(eyes: Driven) -> None:
    with pytest.raises(PictureError, match="cannot be decoded"):
        look(eyes, b"no image at all")


def test_what_is_no_projector_is_refused(projector: Path) -> None:
    """With the file's name, at load."""
    with pytest.raises(LoadError, match=r"lmx-guide\.gguf"):
        LlamaCppBackend().load(spec(Path(guide.GGUF)), go_on)
