"""The tables of models in the config: what holds for all, for one, and for a preset of one."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from lmx.http.sampling import Breaker, PartOfAll, Penalty, Share
from lmx.machines.speech import Effort
from lmx.machines.types import Adapter, KvLayout, KvType, Speculation, Switch

R = TypeVar("R", bound="Running")

Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Bytes = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
Names = Annotated[
    str | Annotated[tuple[Name, ...], Meta(min_length=1)],
    Meta(extra_json_schema={"description": "a model's name or a list of names"}),
]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
Stop = Annotated[
    StopText | Annotated[tuple[StopText, ...], Meta(min_length=1, max_length=4)],
    Meta(extra_json_schema={"description": "a text or a list of up to four"}),
]
Breakers = Annotated[
    tuple[Breaker, ...], Meta(max_length=32, extra_json_schema={"description": "a list of up to 32 texts"})
]


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For every model that does not set its own value."""

    context: Count = 4096
    """Tokens of one sequence, prompt and completion; the model's own limit is the upper bound."""
    slots: Count = 8
    """Sequences that one model decodes at the same time."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """CPU threads of a step of GGUF models (MLX has no such setting); 0 = the number of physical cores."""
    prefill_chunk: Annotated[int, Meta(ge=32, le=4096)] = 512
    """Prompt tokens that one step may read at most."""
    target_itl_ms: Milliseconds = 0
    """The longest pause between two tokens that another one's prompt may cause; 0 = 100 on a GPU, 250 on a CPU."""
    batch_itl_ms: Milliseconds = 1000
    """The same while only requests of the class `batch` are answered."""
    kv_type: KvType = "f16"
    """What the KV cache holds; q8_0 and q4_0 need less memory, and flash attention on GGUF models."""
    kv_layout: KvLayout = "auto"
    """GGUF models: a KV stream `per_sequence`, or a `unified` one; `auto` = per_sequence, which was faster."""
    flash_attention: Switch = "auto"
    """GGUF models; `auto` = what was faster on this kind of device, and on where `kv_type` needs it."""
    speculation: Speculation = "auto"
    """Guess tokens ahead: with a `draft` model, by prompt `lookup`, or not at all; `auto` = what the model can."""
    draft_tokens: Annotated[int, Meta(ge=1, le=64)] = 8
    """Tokens that are guessed at a time, at most."""
    cache_bytes: Bytes = 0
    """Memory of one model for prompts that may come again; 0 = a tenth of the machine's."""
    disk_cache_bytes: Bytes = 4_000_000_000
    """Disk space of all models for them, under `state_dir`; 0 = none."""
    mlx_memory_limit: Bytes = 0
    """Bytes that MLX may take before it waits for running work; 0 = the library's own limit."""
    mlx_cache_limit: Bytes = 50_000_000_000
    """Bytes of freed buffers that MLX keeps, at most, and never more than its own limit; 0 = that limit."""
    mlx_wired_limit: Bytes = 0
    """Bytes that MLX keeps from being paged out (macOS 15 and later); 0 = as mlx-lm sets it."""
    keep_alive_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """How long a model stays loaded while nobody asks for it; 0 = for ever. A request's `keep_alive` goes before it."""


class Running(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is run, where that is said for it alone."""

    context: Count | None = None
    """As in `[defaults]`."""
    slots: Count | None = None
    """As in `[defaults]`."""
    threads: Annotated[int, Meta(ge=0)] | None = None
    """As in `[defaults]`."""
    prefill_chunk: Annotated[int, Meta(ge=32, le=4096)] | None = None
    """As in `[defaults]`."""
    target_itl_ms: Milliseconds | None = None
    """As in `[defaults]`."""
    batch_itl_ms: Milliseconds | None = None
    """As in `[defaults]`."""
    kv_type: KvType | None = None
    """As in `[defaults]`."""
    kv_layout: KvLayout | None = None
    """As in `[defaults]`."""
    flash_attention: Switch | None = None
    """As in `[defaults]`."""
    speculation: Speculation | None = None
    """As in `[defaults]`."""
    draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    """As in `[defaults]`."""
    cache_bytes: Bytes | None = None
    """As in `[defaults]`."""
    disk_cache_bytes: Bytes | None = None
    """As in `[defaults]`; 0 = nothing of this model is kept on disk."""
    mlx_memory_limit: Bytes | None = None
    """As in `[defaults]`."""
    mlx_cache_limit: Bytes | None = None
    """As in `[defaults]`."""
    mlx_wired_limit: Bytes | None = None
    """As in `[defaults]`."""
    keep_alive_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    """As in `[defaults]`."""
    draft: str = ""
    """Path of a smaller model with the same vocabulary that guesses tokens."""
    mmproj: str = ""
    """Path of the projector (a `.gguf` file) with which a GGUF model sees images, relative to the config file."""
    adapters: list[Adapter] = field(default_factory=list)
    """LoRA adapters: a list of `{path = "…", scale = 1.0}`."""
    chat_template: str = ""
    """Path of a Jinja file that is used instead of the model's own chat template, relative to the config file."""


class ModelConfig(Running, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, `[models.NAME]`; what is not set comes from `[defaults]`."""

    path: str = ""
    """A `.gguf` file or an mlx-lm folder, relative to the config file; only `fake` needs none."""
    backend: Literal["auto", "mlx", "llama_cpp", "fake"] = "auto"
    """What runs it; `auto` = by the kind of file."""
    pinned: bool = False
    """Never unload it for others, nor for being idle."""
    preload: bool = True
    """Load it when the server starts; `false` = with its first request."""
    script: str = ""
    """What the `fake` backend acts out."""


class PresetConfig(Running, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as it is wanted for a purpose, `[presets.NAME]`; clients name it `preset:NAME`.

    With a setting of how it is run it is a model of its own, in a worker of its own.
    """

    model: str = ""
    """Name of the model, or of an alias."""
    system: str = ""
    """System prompt of chats that bring none."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """This and the next ones hold for requests that do not say otherwise."""
    top_p: PartOfAll | None = None
    """As in a request."""
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """As in a request."""
    min_p: Share | None = None
    """As in a request."""
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    """As in a request."""
    repetition_penalty: Annotated[float, Meta(ge=0.1, le=2)] | None = None
    """As in a request."""
    presence_penalty: Penalty | None = None
    """As in a request."""
    frequency_penalty: Penalty | None = None
    """As in a request."""
    typical_p: PartOfAll | None = None
    """As in a request."""
    top_n_sigma: Annotated[float, Meta(ge=0, le=100)] | None = None
    """As in a request."""
    xtc_probability: Share | None = None
    """As in a request."""
    xtc_threshold: Share | None = None
    """As in a request."""
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    """As in a request."""
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    """As in a request."""
    dry_allowed_length: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """As in a request."""
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """As in a request."""
    dry_sequence_breakers: Breakers | None = None
    """As in a request."""
    max_tokens: Count | None = None
    """As in a request."""
    stop: Stop | None = None
    """As in a request."""
    thinking: bool | None = None
    """Whether chats think before they answer."""
    effort: Effort | None = None
    """How much they think, for models that can be told so."""
    thinking_budget: Annotated[int, Meta(ge=0)] | None = None
    """Tokens of thoughts, after which the model is made to answer."""
    pinned: bool = False
    """Of a model of its own: never unload it for others, nor for being idle."""
    preload: bool = False
    """Of a model of its own: load it when the server starts; `false` = with its first request."""


def located(model: R, whole: Callable[[str], str]) -> R:
    """With every path made `whole`."""
    return replace(
        model,
        **{
            name: whole(path)
            for name in ("path", "draft", "mmproj", "chat_template")
            if (path := getattr(model, name, ""))
        },
        adapters=[replace(adapter, path=whole(adapter.path)) for adapter in model.adapters],
    )
