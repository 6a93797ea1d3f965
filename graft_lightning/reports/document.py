"""The report: report.md with tables and images, and report.json for machines."""

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft_lightning.durable import write_bytes, write_text
from graft_lightning.reports.alarms import alarms_of
from graft_lightning.reports.belonging import require_stage, what_does_not_belong
from graft_lightning.reports.budgets import budget_section
from graft_lightning.reports.ceiling import ceiling_section, rules_of
from graft_lightning.reports.charts import bars, frontier, learning_curves
from graft_lightning.reports.chosen import chosen_section
from graft_lightning.reports.claims import choose, verdicts
from graft_lightning.reports.comparison import FEW, Run, compare, compare_over_conditions, curves, read_runs, told_apart
from graft_lightning.reports.handoffs import handoff_section
from graft_lightning.reports.kept import without_gain
from graft_lightning.reports.paired import paired_verdicts, positive_verdicts
from graft_lightning.reports.placebo_chart import chosen_before
from graft_lightning.reports.records import record_table
from graft_lightning.reports.round_kl import round_kl_section
from graft_lightning.reports.tables import Table, markdown_table, ordered, tables
from graft_lightning.statistics import Interval


def write_report(
    folders: Sequence[Path], out: Path, section: Mapping[str, Any], pictures: Sequence[Path] | None = None
) -> Path:
    """Makes the report of the runs in some folders.

    Args:
        folders: run folders, or folders that hold some.
        out: where the report goes.
        section: how it reads. ``title``, ``intro``, ``stage`` ("test" or "validate"), ``metrics`` (name -> label),
            ``best_of_n``, ``groups`` (heading -> beginning of the chain's name), ``order`` (methods, in the order of
            the table), ``claims`` (``{text, better, than: [...], metric}``), ``curves`` (heading -> ``{metric,
            runs}``), ``split`` (heading -> methods: several small tables in place of the one), ``paired`` (claims
            ``{lower or higher, than: [...], metric}`` on differences seed by seed), ``positive`` (claims ``{method,
            metric}`` of a metric above 0), ``frontiers`` (heading -> ``{x, y, series: {label: [methods]}, level, scale,
            text}``), ``handoffs`` (what a `handoff_section` wants), ``records`` (heading -> a `record_table`),
            ``sheets`` (heading -> file below the folders), ``outro``; ``apart``: runs of one method and seed have rows
            of their own.
        pictures: folders where the sheets lie, if not with the records; those that are not there are left out.

    Returns:
        The path of report.md.

    Raises:
        NoRuns: if no run has been evaluated.
        NothingToReport: if none was evaluated in this stage, and nothing else is asked for; says what comes next.
    """
    runs = read_runs(folders)
    if section.get("apart"):
        runs = told_apart(runs, rules_of(folders))
    stage = section.get("stage", "test")
    if not (section.get("curves") or section.get("records")):
        require_stage(runs, stage, folders)
    out.mkdir(parents=True, exist_ok=True)
    metrics = dict(section.get("metrics", {})) or {name: name for run in runs for name in run.values}
    groups = section.get("groups") or {"Methods": ""}
    intro = section.get("intro", "").strip()
    lines = [f"# {section.get('title', 'Comparison')}", "", *([intro, ""] if intro else [])]
    lines += [f"{datetime.date.today()}, {machine()}.", ""]
    report: dict[str, Any] = {}
    for number, (heading, prefix) in enumerate(groups.items()):
        chosen = [run for run in runs if _within(run, folders, prefix)]
        found = ordered(compare(chosen, stage, section.get("best_of_n", ())), section.get("order", ()))
        if not found:
            continue
        told_both, both = both_intervals(found, chosen, stage, metrics, section.get("best_of_n", ()))
        for method, row in found.items():
            report[method if number == 0 else f"{heading}: {method}"] = {**row, **both.get(method, {})}
        first = next((name for name in metrics if any(name in row for row in found.values())), next(iter(metrics)))
        cells, told_kept = without_gain(chosen, stage)
        shown = tables(found, metrics, section.get("split"), cells)
        lines += [f"## {heading}", "", *shown, "", caption(chosen, stage), "", *told_kept]
        if cells:
            report.setdefault("no_gain", []).extend(method for method, _ in cells)
        lines += told_both
        if not section.get("split"):
            image = f"comparison{number or ''}.png"
            bars(found, first, metrics[first], out / image)
            lines += [f"![{metrics[first]} by method]({image})", ""]
        for place, (name, wanted) in enumerate(section.get("frontiers", {}).items()):
            image = f"frontier{number or ''}{place}.png"
            if draw_frontier(found, wanted, metrics, out / image):
                lines += [f"### {name}", "", wanted.get("text", "").strip(), "", f"![{name}]({image})", ""]
        told_ceiling, of_ceiling = ceiling_section(chosen, folders, prefix, stage)
        report.update({key if number == 0 else f"{heading}: {key}": of for key, of in of_ceiling.items()})
        if number == 0:
            chosen_method, told = choose(chosen, section.get("choose"))
            claims = [
                {**claim, "better": chosen_method.get(claim["better"], claim["better"])}
                for claim in section.get("claims", ())
            ]
            lines += [*told, *verdicts(found, claims, metrics)]
        lines += told_ceiling
        if number == 0:
            for told, of in (
                budget_section(chosen, first, metrics[first], out),
                round_kl_section(folders, prefix),
                handoff_section(chosen, folders, section.get("handoffs"), stage, out),
            ):
                report.update(of)
                lines += told
        told, of = chosen_section(folders, prefix)
        report.update({key if number == 0 else f"{heading}: {key}": choice for key, choice in of.items()})
        lines += told
        by_seed, records = paired_verdicts(chosen, section.get("paired", ()), metrics, stage)
        by_seed += positive_verdicts(found, section.get("positive", ()), metrics)
        if by_seed:
            report["paired" if number == 0 else f"{heading}: paired"] = records
            lines += ["### Claims, seed by seed", "", *by_seed]
    for number, (heading, wanted) in enumerate(section.get("curves", {}).items()):
        chosen = [
            run for run in runs if _within(run, folders, "") and run.folder.name.startswith(tuple(wanted["runs"]))
        ]
        named = [_named_by_folder(run, wanted["runs"]) for run in chosen]
        points = curves(named, wanted["metric"], wanted.get("stage", "validate"))
        if points:
            image = f"curves{number}.png"
            learning_curves(points, metrics.get(wanted["metric"], wanted["metric"]), out / image)
            report.setdefault("curves", {})[heading] = {m: [{"step": s, **f} for s, f in p] for m, p in points.items()}
            lines += [f"## {heading}", "", wanted.get("text", "").strip(), "", f"![{heading}]({image})", ""]
    for heading, wanted in section.get("records", {}).items():
        table, rows = record_table(folders, wanted)
        if table:
            report.setdefault("records", {})[heading] = rows
            lines += [f"## {heading}", "", wanted.get("text", "").strip(), "", *table]
    if doubts := what_does_not_belong(folders):
        report["left_out"] = doubts
        lines += ["## Left out", "", *(f"- {line}" for line in doubts), ""]
    lines += chosen_before(folders, out)
    raised = alarms_of(folders)
    if raised:
        report["alarms"] = raised
        lines += ["## Alarms", "", *(f"- {where}: {what}" for where, found in raised.items() for what in found), ""]
    lines += images(folders if pictures is None else pictures, section.get("sheets", {}), out)
    lines += [section.get("outro", "").strip(), ""]
    write_text(out / "report.json", json.dumps(_without_nan(report), indent=1) + "\n")
    write_text(out / "report.md", "\n".join(lines).rstrip() + "\n")
    return out / "report.md"


def _without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _within(run: Run, folders: Iterable[Path], prefix: str) -> bool:
    """Whether a run lies in a chain whose name begins so."""
    for folder in folders:
        if run.folder.is_relative_to(folder):
            parts = run.folder.relative_to(folder).parts
            return not prefix or (bool(parts) and parts[0].startswith(prefix))
    return False


def _named_by_folder(run: Run, beginnings: Sequence[str]) -> Run:
    """The same run under the name of its folder, less what all have, to tell settings of one method apart."""
    name = run.folder.name
    for beginning in beginnings:
        name = name.removeprefix(beginning).lstrip("-")
    return run if run.method == "base" else replace(run, method=name)


def draw_frontier(table: Table, wanted: Mapping[str, Any], metrics: Mapping[str, str], path: Path) -> bool:
    """One chart of quality against cost; ``level`` names the method whose metric is the floor.

    False, and no chart, where a table has none of its methods, as that of another group.
    """
    axes = (wanted["x"], wanted["y"])
    shown = [method for methods in wanted["series"].values() for method in methods]
    if not any(name in table and all(axis in table[name] for axis in axes) for name in shown):
        return False
    level = wanted.get("level", "")
    floor = (level, table[level][axes[1]]["mean"]) if level in table else None
    labels = (metrics.get(axes[0], axes[0]), metrics.get(axes[1], axes[1]))
    frontier(table, wanted["series"], axes, labels, path, floor, wanted.get("scale", "log"))
    return True


def caption(runs: Sequence[Run], stage: str) -> str:
    """What the intervals are over, and what they hold fixed."""
    seeds = sorted({run.seed for run in runs if run.stage == stage})
    draws = {len(row) for run in runs if run.stage == stage for rows in run.scores.values() for row in rows}
    conditions = {len(rows) for run in runs if run.stage == stage for rows in run.scores.values()}
    if not conditions:
        return f"Mean and 95 % interval over {len(seeds)} seeds; every method of a seed starts from the same noise."
    few = "too few seeds for an interval over seeds"
    if len(seeds) >= FEW:
        over = "seeds, at the same held-out conditions: what another run would give, not other conditions"
    elif max(conditions) > 1:
        over = f"held-out conditions ({few}), at these seeds: what other conditions would give, not another run"
    else:
        over = f"samples ({few}), at these seeds: what other samples would give, not another run"
    return (
        f"Mean and 95 % interval (Student's t) over {over}; {_count(len(seeds), 'seed')}, "
        f"{_count(max(conditions), 'held-out condition')}, {_count(max(draws, default=0), 'sample')} each."
    )


def _count(number: int, of_what: str) -> str:
    return f"{number} {of_what}{'' if number == 1 else 's'}"


def both_intervals(
    table: Table, runs: Sequence[Run], stage: str, metrics: Mapping[str, str], best_of_n: Sequence[int] = ()
) -> tuple[list[str], dict[str, dict[str, Interval]]]:
    """The first metric of every row with both intervals, where those of the table are over seeds.

    Args:
        table: method -> metric -> its mean over seeds.
        runs: what the table was made of.
        stage: which held-out conditions.
        metrics: labels; the first that is taken sample by sample counts.
        best_of_n: as in `compare`.

    Returns:
        Lines of the report, and the means over conditions by method and metric, under names that say so.
    """
    over = compare_over_conditions(runs, stage, best_of_n)
    first = next((name for name in metrics if any(name in row for row in over.values())), None)
    if first is None or len({run.seed for run in runs if run.stage == stage}) < FEW:
        return [], {}
    several = any(len(run.scores.get(first, ())) > 1 for run in runs if run.stage == stage)
    what = "conditions" if several else "samples"
    rows = {
        method: {"seeds": table[method][first], what: over[method][first]}
        for method in table
        if first in table[method] and first in over.get(method, {})
    }
    columns = {"seeds": f"over seeds, {what} fixed", what: f"over held-out {what}, seeds fixed"}
    found = {method: {f"{first}, over {what}": row[what]} for method, row in rows.items()}
    return [f"Both intervals of {metrics[first]}:", "", *markdown_table(rows, columns), ""], found


def images(folders: Iterable[Path], wanted: Mapping[str, str], out: Path) -> list[str]:
    """Images of runs, copied beside the report."""
    lines: list[str] = []
    for number, (heading, pattern) in enumerate(wanted.items()):
        found = next((file for folder in folders for file in sorted(folder.glob(pattern))), None)
        if found is not None:
            name = f"samples{number}.png"
            write_bytes(out / name, found.read_bytes())
            lines += [f"### {heading}", "", f"![{heading}]({name})", ""]
    return ["## Samples", "", *lines] if lines else []


def machine() -> str:
    """The machine that a report was made on, in words."""
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"
