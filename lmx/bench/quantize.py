"""Quantises a GGUF file: python -m lmx.bench.quantize SOURCE TARGET q8_0. It silences llama.cpp: run it by itself."""

import ctypes
import os
import sys

from llama_cpp import llama_cpp as lib


def main(source: str, target: str, quant: str) -> int:
    params = lib.llama_model_quantize_default_params()
    params.ftype = {"q8_0": lib.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": lib.LLAMA_FTYPE_MOSTLY_Q4_0}[quant]
    silent = lib.llama_log_callback(lambda *_: None)  # the library keeps the bare pointer: hold the object
    lib.llama_log_set(silent, None)
    return int(lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
