"""What Prometheus sees of the actors. Labels come from the catalog and from declared machines only."""

from prometheus_client import Counter, Gauge, Histogram

TRANSITIONS = Counter("lmx_transitions", "Transitions of all machines.", ["machine", "source", "event", "target"])
REQUESTS = Counter("lmx_requests", "Sequences by their one outcome.", ["model", "outcome"])
REFUSALS = Counter("lmx_refusals", "Requests that were not taken, by reason.", ["reason"])
IN_FLIGHT = Gauge("lmx_in_flight", "Sequences between admission and the last byte.")
PROMPT_TOKENS = Counter("lmx_prompt_tokens", "Prompt tokens of finished sequences.", ["model"])
COMPLETION_TOKENS = Counter("lmx_completion_tokens", "Completion tokens computed.", ["model"])
TTFT = Histogram(
    "lmx_time_to_first_token_seconds",
    "From the model actor's inbox to the first token.",
    ["model"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
WORKER_EXITS = Counter("lmx_worker_exits", "Worker processes that ended, by cause.", ["model", "cause"])
ACTOR_CRASHES = Counter("lmx_actor_crashes", "Handlers that raised.", ["actor"])
