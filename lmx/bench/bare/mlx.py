"""mlx-lm's BatchGenerator with its own defaults; nothing of lmx's own backend is used.

On a CPU the model runs in float32 without mx.compile, which is faster there by far.

usage: python -m lmx.bench.bare.mlx FOLDER
"""

import copy
import resource
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from lmx.bench.wire import Extend, Generate, Task, Timing, obey

resource.setrlimit = lambda *_: None  # mlx_lm.utils would lower the limit of open files for good

import mlx.core as mx  # noqa: E402
from mlx_lm.generate import BatchGenerator  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402


class Loop:
    def __init__(self, path: str) -> None:
        self._model, config = load_model(Path(path))
        if mx.default_device() == mx.cpu:
            self._model.set_dtype(mx.float32)
            mx.disable_compile()
        mx.eval(self._model.parameters())
        self._vocab = int(config["vocab_size"])
        self._random = np.random.default_rng(0)

    def act(self, task: Task) -> Timing:
        match task:
            case Generate(lengths, tokens):
                return self._generate([self._tokens(length) for length in lengths], tokens)
            case Extend(known, new, times):
                return self._extend(known, new, times)

    def _generate(self, prompts: list[list[int]], tokens: int) -> Timing:
        generator = self._generator(len(prompts), tokens)
        began = perf_counter()
        waiting = set(generator.insert(prompts))
        while waiting:
            waiting -= {response.uid for response in generator.next_generated()}
        read = perf_counter()
        while generator.next_generated():
            pass
        timing = Timing(read - began, perf_counter() - read)
        generator.close()
        return timing

    def _extend(self, known: int, new: int, times: int) -> Timing:
        generator = self._generator(1, 1)
        tokens = self._tokens(known)
        [uid] = generator.insert([[*tokens, 0]])
        [response] = _first(generator, uid)
        cache = response.prompt_cache
        for layer in cache:
            layer.trim(layer.offset - known)
        seconds = [self._again(generator, cache, tokens, new) for _ in range(times)]
        generator.close()
        return Timing(statistics.median(seconds))

    def _again(self, generator: Any, cache: Any, known: list[int], new: int) -> float:
        tokens, mine = self._tokens(new), copy.deepcopy(cache)
        began = perf_counter()
        [uid] = generator.insert([tokens], caches=[mine], all_tokens=[known])
        _first(generator, uid)
        return perf_counter() - began

    def _generator(self, rows: int, tokens: int) -> Any:
        return BatchGenerator(self._model, max_tokens=tokens, completion_batch_size=rows)

    def _tokens(self, count: int) -> list[int]:
        return [int(token) for token in self._random.integers(0, self._vocab, count)]


def _first(generator: Any, uid: int) -> list[Any]:
    """The responses with the first token of this prompt."""
    while not (responses := [one for one in generator.next_generated() if one.uid == uid]):
        pass
    return responses


if __name__ == "__main__":
    obey(Task, Loop(sys.argv[1]).act)
