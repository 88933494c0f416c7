"""What a model folder says about itself, and whether its files are whole. Reads JSON and headers, no weights."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from lmx.backends.base import LoadError

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
LENGTH_BYTES = 8
"""A safetensors file starts with the length of its JSON header."""

HEADER_LIMIT = 100_000_000
"""The format's own limit."""


class Folder:
    """A model folder as mlx-lm and transformers write it. Constructing it raises LoadError for one that is not."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise LoadError(f"{path} does not exist; check the model's path")
        if not self.path.is_dir():
            raise LoadError(f"{path} is a file; the mlx backend needs the folder with config.json and safetensors")
        if not (self.path / "config.json").is_file():
            raise LoadError(f"{path} has no config.json; give the folder of an mlx-lm model")
        self.config = self._read("config.json")
        self._check_weights()

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return self._read("tokenizer_config.json")

    @property
    def context(self) -> int | None:
        """The longest sequence that the model was trained for, where the folder tells."""
        configs = (self.config, self.config.get("text_config") or {})
        known = [config[key] for config in configs for key in CONTEXT_KEYS if isinstance(config.get(key), int)]
        return known[0] if known else None

    @property
    def eos_ids(self) -> frozenset[int]:
        """The end tokens named by number; `eos_text` may add one."""
        ids: set[int] = set()
        for config in (self.config, self.config.get("text_config") or {}, self._read("generation_config.json")):
            value = config.get("eos_token_id")
            ids.update(value if isinstance(value, list) else [] if value is None else [value])
        return frozenset(ids)

    @property
    def bos_text(self) -> str:
        return _token_text(self.tokenizer_config.get("bos_token"))

    @property
    def eos_text(self) -> str:
        return _token_text(self.tokenizer_config.get("eos_token"))

    @property
    def chat_template(self) -> str | None:
        """A file of its own goes before the tokenizer's settings; of several named templates the "default" one."""
        file = self.path / TEMPLATE_FILE
        if file.is_file():
            return file.read_text(encoding="utf-8")
        template = self.tokenizer_config.get("chat_template")
        if isinstance(template, list):
            template = {named["name"]: named["template"] for named in template}.get("default")
        return template or None

    def _read(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty when there is no such file."""
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"{file} cannot be read ({error}); download it again") from error
        if not isinstance(content, dict):
            raise LoadError(f"{file} holds no JSON object; download it again")
        return content

    def _check_weights(self) -> None:
        """Every part that the index names is there, and every part is as long as its header says."""
        parts = {path.name for path in self.path.glob("model*.safetensors")}
        index = self._read("model.safetensors.index.json").get("weight_map", {})
        if missing := sorted(set(index.values()) - parts):
            raise LoadError(f"{self.path} lacks {missing[0]}, which its index names; download the model again")
        if not parts:
            raise LoadError(f"{self.path} has no model*.safetensors; give the folder of an mlx-lm model")
        for part in sorted(parts):
            _check_length(self.path / part)


def _check_length(file: Path) -> None:
    """Raise LoadError unless a safetensors file is as long as its header says. Costs one short read."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            text = stream.read(min(length, HEADER_LIMIT))
        header = json.loads(text) if len(text) == length or not text.startswith(b"{") else {}
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except OSError as error:
        raise LoadError(f"{file} cannot be read: {error.strerror}; check its permissions") from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise LoadError(f"{file} is no safetensors file; download it again") from error
    whole = LENGTH_BYTES + length + max(ends, default=0)
    if size < whole:
        raise LoadError(f"{file} is cut off: {size} of {whole} bytes; download it again")


def _token_text(token: Any) -> str:
    """A token as tokenizer_config.json writes it: plain text, or an object with more settings."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
