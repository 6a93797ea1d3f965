"""The model card of an export: what it is, how it is used, and the run's own metrics."""

import math
from pathlib import Path
from typing import Any

import yaml

from graft_lightning.runs import ALARMS, last_records


def model_card(settings: dict[str, Any], task: dict[str, Any], run: Path | None) -> str:
    """README.md of an export.

    Args:
        settings: ``handoff.json``.
        task: ``verify.json``.
        run: the run's folder, with evaluation.jsonl and alarms.jsonl; None leaves metrics out.
    """
    handoff, guidance = settings["handoff"], settings["guidance"]
    tags = ["text-to-image", "diffusers", "graft"] + (["lora"] if settings["kind"] == "lora" else [])
    front = {"base_model": settings["base_model"], "library_name": "diffusers", "tags": tags}
    kind = "LoRA" if settings["kind"] == "lora" else f"fine-tuned {settings['component']}"
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", ""]
    lines += [f"# {settings['method']} of {Path(settings['base_model']).name}", ""]
    lines += [
        f"A {kind} for `{settings['pipeline']}`, trained for {settings['steps_trained']:,} steps on samples of the "
        "base model that a reward had accepted (arXiv 2510.02692).",
        "",
        *_range(handoff, settings["sampler"]["steps"]),
        *_guidance(guidance, settings),
        "",
        "## Use",
        "",
        "```python",
        "from handoff import Handoff, load_pipeline",
        "",
        "pipe = load_pipeline()",
        "handoff = Handoff(pipe)",
        f"image = pipe({task['prompts'][0]!r}, **handoff.arguments).images[0]",
        "```",
        "",
        "`handoff.py` needs nothing but diffusers. " + _files(settings),
        "",
        *(f"![{text}]({name})" for text, name in zip(task["prompts"], task["images"], strict=True)),
        "",
        "## Figures of the run",
        "",
        *(metrics(run) if run is not None else ["None: exported without its run's folder."]),
        "",
        "## Proof",
        "",
        f"`python verify.py` draws {len(task['prompts'])} images again from the run's own initial noise with plain "
        f"diffusers ({task['sampler']}, which draws no noise on its way) and compares latents and images with those of "
        "the run's sampler. It fails where they differ, and where fine-tuning has no effect.",
    ]
    eta = settings["sampler"]["eta_of_the_run"]
    if eta:
        lines += ["", f"The run itself sampled with eta = {eta:g}; its metrics are of such samples."]
    return "\n".join(lines) + "\n"


def _range(handoff: dict[str, Any], steps: int) -> list[str]:
    if handoff["state"] == 0:
        return ["The fine-tuned model makes every step."]
    share, side = handoff["steps_share"], handoff["fine_tuned"]
    return [
        f"The fine-tuned model makes the steps from noise levels {side} timestep {handoff['timestep']:g} "
        f"(sigma {handoff['sigma']:.4g}), the base model the others: state {handoff['state']} of {steps}, counted from "
        f"the image, {share:.0%} of the steps."
    ]


def _guidance(guidance: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    if guidance["scale"] == 1:
        return ["There is no guidance: guidance_scale=1."]
    if guidance["mode"] == "absorbed":
        return [
            f"The fine-tuned model has absorbed the guidance: its steps are not guided, the base model's at "
            f"{guidance['scale']:g}. `Handoff` does that."
        ]
    without = "the merged pipeline, or the adapter alone," if settings["merged"] else "the adapter alone"
    return [
        f"Guidance at {guidance['scale']:g} is composed: the unconditional half of each step is the base model's. "
        f"`Handoff` does that exactly; {without} would take both halves from the fine-tuned model, which gives other "
        "images."
    ]


def _files(settings: dict[str, Any]) -> str:
    text = (
        "The weights also load by `pipe.load_lora_weights`, at strength 1; their header tells the hand-off. "
        if settings["kind"] == "lora"
        else f"The fine-tuned network is in `{settings['weights']}`, beside the base, which is not included. "
    )
    return text + ("`pipeline/` is a whole pipeline with the fine-tuned weights." if settings["merged"] else "")


def metrics(run: Path) -> list[str]:
    """A table of the last evaluation of each stage and method, and the alarms that they raised."""
    records = last_records(run)
    if not records:
        return ["The run was not evaluated."]
    names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    lines = ["| conditions | model | steps | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for record in records:
        cells = [_cell(record["metrics"].get(name)) for name in names]
        lines.append(f"| {record['stage']} | {record['method']} | {record['step']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Means with 95 % intervals over held-out conditions, or over the samples where there is one condition; without "
        "one where a metric is of the whole set.",
    ]
    alarms = [line for record in last_records(run, ALARMS) for line in record["alarms"].values()]
    return lines + (["", "Alarms of these evaluations:", "", *(f"- {line}" for line in alarms)] if alarms else [])


def _cell(metric: dict[str, float] | None) -> str:
    if metric is None or metric["mean"] != metric["mean"]:
        return ""
    text = f"{metric['mean']:.4g}"
    known = math.isfinite(metric["low"]) and metric["low"] < metric["high"]
    return f"{text} [{metric['low']:.4g}, {metric['high']:.4g}]" if known else text
