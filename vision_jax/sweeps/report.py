"""A sweep's table, figure and verdicts, from what its trials wrote; nothing is trained or predicted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_jax.evaluation.tables import markdown_table
from vision_jax.sweeps.claims import PaperFigures, Study, fits
from vision_jax.sweeps.figure import plot_figure, plot_images
from vision_jax.sweeps.folder import SweepFolder
from vision_jax.sweeps.outcomes import Arm, Outcome, arms, outcomes_csv, read_outcomes, value_text
from vision_jax.sweeps.progress import read_json_object
from vision_jax.sweeps.run import failure_line
from vision_jax.sweeps.verdicts import LEVEL, Verdict, arm_interval, decide_claims, how_decided
from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.types import UserError


def write_report(folder: SweepFolder, study: Study) -> str:
    """Writes table.md, table.csv, figure.png and images.png.

    Args:
        folder: of a sweep, finished or not.
        study: what the experiment file says of it.

    Returns:
        table.md.

    Raises:
        UserError: no trial is done yet, or the folder cannot be written.
    """
    outcomes = read_outcomes(folder)
    if not outcomes:
        failed = [trial for trial in folder.trials() if folder.state(trial) == "failed"]
        why = f": {failed[0].name}: {failure_line(folder, failed[0])}" if failed else " yet"
        raise UserError(f"{folder.path}: no trial is done{why}")
    folded = arms(outcomes)
    metrics = _metrics(study, outcomes)
    verdicts = decide_claims(folded, study.claims)
    text = _page(folder, study, folded, metrics, verdicts)
    with storage_errors(folder.path):
        write_atomically(folder.path / "table.csv", outcomes_csv(outcomes))
        write_atomically(folder.path / "table.md", text)
        write_atomically(folder.path / "figure.png", plot_figure(folded, metrics))
        images = plot_images(folded)
        if images is not None:
            write_atomically(folder.path / "images.png", images)
    return text


def _metrics(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """The study's metrics that any trial has: other data may lack some (masks)."""
    known = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    wanted = study.metrics or (str(read_json_object(outcomes[0].run / "experiment.json").get("metric")),)
    found = [name for name in wanted if name in known]
    if not found:
        raise UserError(f"METRICS: no trial has {', '.join(wanted)}; there are: {', '.join(known)}")
    return found


def _page(
    folder: SweepFolder,
    study: Study,
    folded: Sequence[Arm],
    metrics: Sequence[str],
    verdicts: Sequence[Verdict],
) -> str:
    record = folder.read_record()
    lines = [
        f"# {record.get('name') or Path(record['file']).stem}",
        "",
        f"    {record['command']}",
        "",
        *_laid_out(study, folded, metrics),
        _table(study, folded, metrics),
    ]
    counts = sorted({len(arm.outcomes) for arm in folded})
    if counts[-1] > 1:
        lines += ["", "Mean ± standard deviation over n seeds."]
    if verdicts:
        rows = [
            [v.claim.text, v.pair, v.claim.metric, v.figures, v.paper(study.paper), v.word] for v in verdicts
        ]
        heads = ["claim", "arms", "metric", "difference", "paper's", "as measured"]
        lines += ["", "## Claims", "", markdown_table(heads, rows), "", how_decided(verdicts)]
    decided = [verdict.claim for verdict in verdicts]
    undecided = [claim for claim in study.claims if claim not in decided]
    if undecided:
        lines += ["", "Undecided, as no two arms that are done fit them and have their metric:", ""]
        lines += [f"- {claim.text} ({claim.metric})" for claim in undecided]
    lines += _unfinished(folder)
    lines += ["", "## To repeat it", "", *_repeat(folder, folded)]
    return "\n".join(lines) + "\n"


def _laid_out(study: Study, folded: Sequence[Arm], metrics: Sequence[str]) -> list[str]:
    """For each metric a table that has a column for each value of the study's `columns`."""
    across = study.columns
    if across not in folded[0].named:
        return []
    down = [name for name in folded[0].named if name != across]
    columns = list(dict.fromkeys(value_text(arm.values.get(across, "")) for arm in folded))
    lines = []
    for metric in metrics:
        rows: dict[tuple[str, ...], dict[str, str]] = {}
        for arm in folded:
            row = rows.setdefault(tuple(value_text(arm.values.get(name, "")) for name in down), {})
            row[value_text(arm.values.get(across, ""))] = _with_interval(study, arm, metric)
        table = markdown_table(
            [*down, *(f"{across}={column}" for column in columns)],
            [[*names, *(row.get(column, "") for column in columns)] for names, row in rows.items()],
        )
        paper = ", and in parentheses the paper's" if "(" in table else ""
        lines += [f"{metric}: the mean over seeds, its {LEVEL:.0%} interval{paper}.", "", table, ""]
    return lines


def _with_interval(study: Study, arm: Arm, metric: str) -> str:
    found, paper = arm_interval(arm, metric), _paper(study.paper, arm, metric)
    text = _with_spread(arm, metric)
    if found is not None:
        text = f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
    return f"{text} ({paper})" if paper else text


def _table(study: Study, folded: Sequence[Arm], metrics: Sequence[str]) -> str:
    names = folded[0].named
    printed = {metric: [_paper(study.paper, arm, metric) for arm in folded] for metric in metrics}
    heads = [*names, "n"]
    for metric in metrics:
        heads += [metric] + (["paper's"] if any(printed[metric]) else [])
    flops, memory = (
        any(key in o.step for a in folded for o in a.outcomes.values()) for key in ("flops", "bytes")
    )
    heads += [
        "minutes a run",
        "ms an example",
        *(["GFLOP a step"] if flops else []),
        *(["MiB a step"] if memory else []),
    ]
    rows = []
    for i, arm in enumerate(folded):
        row = [value_text(arm.values.get(name, "")) for name in names] + [str(len(arm.outcomes))]
        for metric in metrics:
            row.append(_with_spread(arm, metric))
            if any(printed[metric]):
                row.append(printed[metric][i])
        each = list(arm.outcomes.values())
        row += [f"{statistics.fmean(o.seconds for o in each) / 60:.3g}", _milliseconds(each)]
        row += [_mean_step(each, "flops", 1e9, ".3g")] if flops else []
        row += [_mean_step(each, "bytes", 2**20, ".0f")] if memory else []
        rows.append(row)
    return markdown_table(heads, rows)


def _with_spread(arm: Arm, metric: str) -> str:
    mean, spread = arm.mean(metric), arm.spread(metric)
    if math.isnan(mean):
        return "-"
    return f"{mean:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def _paper(paper: Sequence[PaperFigures], arm: Arm, metric: str) -> str:
    found = [
        figures.metrics[metric]
        for figures in paper
        if metric in figures.metrics and fits(figures.where, arm.values)
    ]
    return f"{found[0]:.3f}" if found else ""


def _mean_step(outcomes: Sequence[Outcome], key: str, unit: float, shape: str) -> str:
    known = [outcome.step[key] / unit for outcome in outcomes if key in outcome.step]
    return f"{statistics.fmean(known):{shape}}" if known else ""


def _milliseconds(outcomes: Sequence[Outcome]) -> str:
    known = [o.example_seconds for o in outcomes if math.isfinite(o.example_seconds)]
    return f"{1000 * statistics.fmean(known):.3g}" if known else ""


def _unfinished(folder: SweepFolder) -> list[str]:
    states = [(trial, folder.state(trial)) for trial in folder.trials()]
    failed = [trial for trial, state in states if state == "failed"]
    open_ = [trial.name for trial, state in states if state in ("waiting", "cut off")]
    lines = []
    if failed:
        lines += ["", "## Failed", ""]
        lines += [f"- {trial.name}: {failure_line(folder, trial)}" for trial in failed]
    if open_:
        lines += ["", f"Not done yet: {', '.join(open_)}."]
    return lines


def _repeat(folder: SweepFolder, folded: Sequence[Arm]) -> list[str]:
    """Versions, devices and commits of the trials, and the arguments that all share."""
    runs = [outcome.run for arm in folded for outcome in arm.outcomes.values()]
    records = [read_json_object(run / "experiment.json") for run in runs]
    lines = [
        f"- {name}: {value}"
        for name, value in (
            (
                "versions",
                _all(", ".join(f"{k} {v}" for k, v in (r.get("versions") or {}).items()) for r in records),
            ),
            ("devices", _all(", ".join(r.get("devices") or ()) for r in records)),
            ("threads", _all(str(r.get("threads") or "") for r in records)),
            ("commit", _all(str(r.get("commit") or "none") for r in records)),
        )
    ]
    files = [folder.experiment, *(run / "experiment.py" for run in runs)]
    copies = {file.read_bytes() for file in files if file.is_file()}
    if len(copies) > 1:
        lines.append(f"- there are {len(copies)} versions of the experiment file; each trial has its copy")
    arguments = _shared([record.get("arguments") or {} for record in records])
    lines.append(f"- arguments of every trial: `{' '.join(_flat(arguments))}`")
    return lines


def _all(values: Any) -> str:
    return "; ".join(dict.fromkeys(values))


def _shared(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments that are equal in all records, nested ones too."""
    shared: dict[str, Any] = {}
    for name, value in records[0].items():
        others = [record.get(name) for record in records]
        if all(isinstance(other, Mapping) for other in others):
            shared[name] = _shared([other for other in others if isinstance(other, Mapping)])
        elif all(other == value for other in others):
            shared[name] = value
    return shared


def _flat(arguments: Mapping[str, Any], prefix: str = "") -> list[str]:
    words = []
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            words += _flat(value, f"{prefix}{name}.")
        else:
            words.append(f"{prefix}{name}={value_text(value)}")
    return words
