"""Train lmx-guide from lmx/guide/corpus and write it as GGUF and as an MLX folder: about twelve minutes on two cores.

Only this script and guide_torch.py need torch, which lmx itself does not. In an environment of its own:
`pip install torch==2.13.0 numpy tokenizers gguf jinja2 rich`, then `PYTHONPATH=. python scripts/train_guide.py`.
The same seed on the same machine gives the same model.
"""

import argparse
import itertools
import json
import random
import re
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import torch
from guide_corpus import GUIDE, Dialog, Entry, Sampler, ask, load_corpus, load_template, render
from guide_torch import Llama, Muon
from rich.progress import Progress
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from lmx.bench.model_files import CONTROL, VISIBLE, LlamaShape, Weights, train_tokenizer, write_gguf, write_mlx

SHAPE = LlamaShape(layers=4, dim=256, ffn=640, heads=4, kv_heads=2, vocab=2048, context=2048, head_dim=64)
SHORT, LONG = (9, 256), (3, 768)
"""Batches (rows, tokens in each): mostly short ones, every fourth with room for a long history."""

CANARY = "What is lmx?"
"""What a freshly loaded lmx-guide is asked before anybody else may ask it."""

Sample = tuple[list[int], list[bool]]
"""Token ids, and for each whether the assistant writes it."""


@dataclass(frozen=True)
class Encoder:
    """Turns dialogs into samples, with the same template and tokeniser that the servers use."""

    template: jinja2.Template
    tokenizer: Tokenizer

    def __call__(self, dialog: Dialog, *, last_only: bool = False) -> Sample:
        ids = self.tokenizer.encode(render(self.template, dialog)).ids
        spans = list(self._answers(ids))
        mask = [False] * len(ids)
        for begin, end in spans[-1:] if last_only else spans:
            mask[begin:end] = [True] * (end - begin)
        return ids, mask

    def _answers(self, ids: list[int]) -> Iterable[tuple[int, int]]:
        """From after the assistant's header (and an opened <think>) to behind <|im_end|>."""
        header = self.tokenizer.encode("<|im_start|>assistant\n").ids
        opened = self.tokenizer.encode("<think>\n").ids
        [end_of_turn] = self.tokenizer.encode("<|im_end|>").ids
        at = 0
        while at < len(ids):
            if ids[at : at + len(header)] == header:
                at += len(header)
                at += len(opened) if ids[at : at + len(opened)] == opened else 0
                end = ids.index(end_of_turn, at) + 1
                yield at, end
                at = end
            else:
                at += 1


def batch(sampler: Sampler, encode: Encoder, *, long: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows packed with dialogs, the positions whose next token counts, and who sees whom (the same dialog, earlier)."""
    rows, length = LONG if long else SHORT
    ids, counts, owner = (np.zeros((rows, length + 1), kind) for kind in (np.int64, bool, np.int64))
    for row in range(rows):
        at, number = 0, 0
        while at <= length:
            tokens, mask = encode(sampler.dialog(long=long))
            room = min(len(tokens), length + 1 - at)
            ids[row, at : at + room], counts[row, at : at + room] = tokens[:room], mask[:room]
            owner[row, at : at + room] = number
            at, number = at + room, number + 1
    own = torch.from_numpy(owner[:, :-1])
    seen = (own[:, :, None] == own[:, None, :]).tril()[:, None]
    return torch.from_numpy(ids), torch.from_numpy(counts[:, 1:]), seen


def train(entries: list[Entry], encode: Encoder, steps: int, seed: int) -> Llama:
    torch.manual_seed(seed)
    model, sampler = Llama(SHAPE), Sampler(entries, seed)
    matrices = [weight for weight in model.layers.parameters() if weight.ndim == 2]
    others = [model.embed_tokens.weight, *(weight for weight in model.parameters() if weight.ndim == 1)]
    optimisers = [
        Muon(matrices, lr=0.02, decay=0.02),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    with Progress() as progress:
        task = progress.add_task("training", total=steps)
        for step in range(steps):
            for optimiser, rate in zip(optimisers, rates, strict=True):
                optimiser.param_groups[0]["lr"] = rate * min((step + 1) / 20, 1 - step / steps)
            ids, counts, seen = batch(sampler, encode, long=step % 4 == 3)
            scores = model.logits(model(ids[:, :-1], seen)[counts])
            loss = cross_entropy(scores, ids[:, 1:][counts])
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            progress.update(task, advance=1, description=f"loss {loss.item():.4f}")
            if step % 20 == 0:
                progress.console.print(f"step {step}: loss {loss.item():.4f}")
    return model


@torch.no_grad()
def margins(model: Llama, samples: list[Sample], size: int = 32) -> list[float]:
    """By how much the right token wins where it wins least, per sample. Positive: greedy decoding is exact."""
    found: dict[int, float] = {}
    order = sorted(range(len(samples)), key=lambda i: len(samples[i][0]))
    for begin in range(0, len(order), size):
        chosen = order[begin : begin + size]
        length = max(len(samples[i][0]) for i in chosen)
        ids = torch.tensor([samples[i][0] + [0] * (length - len(samples[i][0])) for i in chosen])
        hidden = model(ids[:, :-1], torch.ones(length - 1, length - 1, dtype=torch.bool).tril())
        for row, i in enumerate(chosen):
            at = [position - 1 for position, counts in enumerate(samples[i][1]) if counts]
            scores = model.logits(hidden[row, at])
            right = ids[row, [position + 1 for position in at]][:, None]
            best_other = scores.scatter(1, right, -torch.inf).amax(1)
            found[i] = (scores.gather(1, right)[:, 0] - best_other).min().item()
    return [found[i] for i in range(len(samples))]


def report(model: Llama, entries: list[Entry], encode: Encoder, seed: int) -> None:
    """Print how many answers are exact, for the corpus in several settings and for questions never seen."""
    held_out = tomllib.loads((GUIDE / "held_out.toml").read_text(encoding="utf-8"))
    by_question = {question: entry for entry in entries if not entry.tools for question in entry.questions}
    sampler = Sampler(entries, seed + 1)
    asked = [(entry, question) for entry in entries for question in entry.questions]
    plain = [(entry, question) for entry, question in asked if not entry.tools]
    settings = {
        "own questions": [ask(*pair) for pair in asked],
        "  of them with tools": [ask(*pair) for pair in asked if pair[0].tools],
        "with history (1 to 4 turns)": [
            _after(sampler.plain_dialog(1 + i % 4, system=0), ask(*p)) for i, p in enumerate(plain[::4])
        ],
        "with history (12 turns)": [_after(sampler.plain_dialog(11, system=0), ask(*p)) for p in plain[::8]],
        "with a system message": [_after(Dialog(sampler.system(1)), ask(*p)) for p in plain[::2]],
        "thinking": [Dialog(ask(*p).messages, think=p[0].think) for p in plain[::2]],
        "carelessly typed": [ask(entry, sampler.vary(question)) for entry, question in plain[::2]],
        "unseen, taught": [
            ask(by_question[group["same_as"]], question)
            for group in held_out["taught"]
            for question in group["questions"]
        ],
        "unseen, not taught": [ask(sampler.stranger, question) for question in held_out["not_taught"]],
    }
    for name, dialogs in settings.items():
        wins = margins(model, [encode(dialog, last_only=True) for dialog in dialogs])
        exact = [win for win in wins if win > 0]
        low = np.percentile(exact or [0.0], [0, 1, 5]).round(2).tolist()
        print(
            f"{name}: {len(exact)} of {len(wins)} exact ({len(exact) / len(wins):.1%}); margins (least, 1 %, 5 %) {low}"
        )
        missed = [dialog.messages[-2]["content"] for dialog, win in zip(dialogs, wins, strict=True) if win <= 0]
        print("   missed:", random.Random(0).sample(missed, min(len(missed), 15)))


def canary(model: Llama, encode: Encoder, entries: list[Entry]) -> dict[str, object]:
    """The start of the answer that the canary must sing. Raises ValueError if this model gives another one."""
    entry = next(entry for entry in entries if CANARY in entry.questions)
    sample = encode(ask(entry, CANARY))
    if margins(model, [sample])[0] <= 0:
        raise ValueError(f"the trained model does not answer {CANARY!r} as taught: train it longer")
    return {"question": CANARY, "token_ids": list(itertools.compress(*sample))[:16]}


def _after(past: Dialog, dialog: Dialog) -> Dialog:
    return Dialog(past.messages + dialog.messages, dialog.tools)


def vocabulary_texts(entries: list[Entry], template: jinja2.Template) -> Iterable[str]:
    """What the tokeniser is trained on: everything that is asked and answered, control tokens taken out."""
    sampler = Sampler(entries, 0)
    special = re.compile("|".join(re.escape(token) for token in (*CONTROL, *VISIBLE)))
    texts = {
        text
        for entry in entries
        for text in (*entry.questions, *map(str.lower, entry.questions), entry.answer, entry.think)
    }
    for text in (*sorted(texts), *(render(template, sampler.tool_dialog(0)) for _ in range(300))):
        yield from special.split(text)


def half_weights(model: Llama) -> Weights:
    """The model's weights under their full names, rounded to f16; the model itself is rounded too."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    return {f"model.{name}": weight.detach().numpy() for name, weight in model.named_parameters()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=GUIDE)
    options = parser.parse_args()
    began = time.monotonic()
    entries, template = load_corpus(), load_template()
    content = train_tokenizer(vocabulary_texts(entries, template), SHAPE.vocab)
    encode = Encoder(template, Tokenizer.from_str(json.dumps(content)))
    model = train(entries, encode, options.steps, options.seed)
    weights, text = half_weights(model), (GUIDE / "chat_template.jinja").read_text(encoding="utf-8")
    write_mlx(options.out / "mlx", SHAPE, weights, content, text, dtype="f16")
    write_gguf(options.out / "lmx-guide.gguf", SHAPE, weights, content, text, name="lmx-guide", dtype="f16")
    (options.out / "canary.json").write_text(json.dumps(canary(model, encode, entries)) + "\n", encoding="utf-8")
    print(f"{SHAPE.parameters} parameters, trained in {time.monotonic() - began:.0f} seconds")
    report(model, entries, encode, options.seed)


if __name__ == "__main__":
    main()
