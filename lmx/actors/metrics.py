"""What Prometheus sees of the actors. Labels come from the catalog and from declared machines only."""

from prometheus_client import Counter, Gauge, Histogram

TRANSITIONS = Counter("lmx_transitions", "Transitions of all machines.", ["machine", "source", "event", "target"])
REQUESTS = Counter("lmx_requests", "Sequences by their one outcome.", ["model", "outcome"])
REFUSALS = Counter("lmx_refusals", "Requests that were not taken, by reason.", ["reason"])
FALLBACKS = Counter("lmx_fallbacks", "Requests for an alias that went to another of its models.", ["alias", "model"])
IN_FLIGHT = Gauge("lmx_in_flight", "Sequences between admission and the last byte.")
QUEUED = Gauge("lmx_queued_requests", "Requests that wait in admission for their model.", ["model", "class"])
QUEUE_SECONDS = Histogram(
    "lmx_queue_seconds",
    "How long sequences waited in admission, those that did not included.",
    ["model"],
    buckets=(0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
CONCURRENCY = Gauge("lmx_concurrency_limit", "Sequences that a model is given at once.", ["model"])
PROMPT_TOKENS = Counter("lmx_prompt_tokens", "Prompt tokens of finished sequences.", ["model"])
COMPLETION_TOKENS = Counter("lmx_completion_tokens", "Completion tokens computed.", ["model"])
TTFT = Histogram(
    "lmx_time_to_first_token_seconds",
    "From the model actor's inbox to the first token.",
    ["model"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
KV_TOKENS = Gauge("lmx_kv_tokens", "Tokens of running sequences in the KV cache.", ["model"])
PREFIX_CACHE_BYTES = Gauge("lmx_prefix_cache_bytes", "Memory of prompts that may come again.", ["model"])
DISK_CACHE_BYTES = Gauge("lmx_disk_cache_bytes", "Disk space of prompts that may come again.", ["model"])
PREFIX_TOKENS = Counter(
    "lmx_prefix_tokens", "Prompt tokens, by whether they were reused or computed.", ["model", "kind"]
)
SPECULATION_TOKENS = Counter(
    "lmx_speculation_tokens", "Guessed tokens: all drafted, and the accepted.", ["model", "kind"]
)
WORKER_MEMORY = Gauge(
    "lmx_worker_memory_bytes", "Memory of a worker, as far as it can be told apart.", ["model", "kind"]
)
CONTINUED = Counter("lmx_continued", "Sequences that outlived a worker and went on in the next one.", ["model"])
STRAY_REPORTS = Counter("lmx_stray_reports", "Words of a worker about sequences that it does not have.", ["model"])
WORKER_EXITS = Counter("lmx_worker_exits", "Worker processes that ended, by cause.", ["model", "cause"])
LOG_LINES_DROPPED = Counter("lmx_log_lines_dropped", "Log lines that were not read in time, or could not be written.")
RECYCLES = Counter("lmx_recycles", "Workers that were replaced by fresh ones although they answered.", ["model"])
MEMORY_USED = Gauge("lmx_memory_used_ratio", "Part of the machine's memory that is used.")
MEMORY_RUNG = Gauge("lmx_memory_rung", "Of the ladder of memory pressure: 0 nominal … 4 closing.")
ACTOR_CRASHES = Counter("lmx_actor_crashes", "Handlers that raised.", ["actor"])
