"""What a profile session says, as plain data, and the same as a table, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samcmp.profiling import WARNING
from samcmp.profiling.ratios import verdict
from samcmp.records import Record, Throughput, to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("table", "markdown", "csv", "json")
MISSING = "n/a"


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one mapping an optimizer; what was not measured is None."""
    return [_row(record) for record in records]


def _row(record: Record) -> dict[str, Any]:
    speed, memory, energy = record.throughput, record.memory, record.energy
    row: dict[str, Any] = {
        "optimizer": record.case.arm,
        "status": record.status,
        "reason": record.reason,
        "batch_size": record.case.protocol.batch_size,
        "graphs_per_second": speed.graphs_per_second if speed else None,
        "pipeline_graphs_per_second": speed.pipeline_graphs_per_second if speed else None,
        "atoms_per_second": speed.atoms_per_second if speed else None,
        "passes_per_step": speed.passes_per_step if speed else None,
        "of_bound": speed.efficiency if speed else None,
        "peak_bytes": memory.peak_bytes if memory else None,
        "joules_per_graph": energy.joules_per_graph if energy else None,
        "rounds": speed.rounds if speed else None,
        "stopped": speed.stopped if speed else None,
    }
    for peer, (ratio, low, high) in (speed.ratio_to if speed else {}).items():
        row[f"x_{peer}"] = {
            "ratio": ratio,
            "low": low,
            "high": high,
            "verdict": verdict(low or 0.0, math.inf if high is None else high),
        }
    return row


def anchors(records: Sequence[Record]) -> list[str]:
    """Return the references of the ratios: SAM first, then the base."""
    found = dict.fromkeys(peer for r in records if r.throughput for peer in r.throughput.ratio_to)
    return sorted(found, key=lambda peer: peer != "sam")


def columns(records: Sequence[Record]) -> list[str]:
    """Return the titles of the printed table."""
    ratios = [f"× {peer}" for peer in anchors(records)]
    energy = ["J/graph"] if any(r.energy and r.energy.joules_per_graph is not None for r in records) else []
    return ["optimizer", "graphs/s", "with loading", *ratios, "passes", "of bound", "peak memory", *energy]


def cells(record: Record, peers: Sequence[str], *, energy: bool) -> list[str]:
    """Return the printed cells of one optimizer."""
    row = _row(record)
    if row["graphs_per_second"] is None:
        return [row["optimizer"], record.status, *[""] * (5 + len(peers) - 1 + energy)]
    shown = [
        row["optimizer"],
        number(row["graphs_per_second"]),
        number(row["pipeline_graphs_per_second"]),
        *(_ratio(row.get(f"x_{peer}"), same=record.case.optimizer == peer) for peer in peers),
        MISSING if row["passes_per_step"] is None else f"{row['passes_per_step']:.2f}",
        MISSING if row["of_bound"] is None else f"{row['of_bound']:.2f}",
        size(row["peak_bytes"]),
    ]
    return [*shown, number(row["joules_per_graph"], digits=3)] if energy else shown


def _ratio(found: Mapping[str, Any] | None, *, same: bool) -> str:
    if found is None:
        return "1" if same else MISSING
    if not found["low"] or found["high"] is None or not math.isfinite(found["high"]):
        return f"{found['ratio']:.2f} (one round)"
    return f"{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}] {found['verdict']}"


def number(value: float | None, *, digits: int = 0) -> str:
    """Return a number with three significant digits or more, or n/a."""
    if value is None:
        return MISSING
    if digits:
        return f"{value:.{digits}g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(count: int | None) -> str:
    """Return bytes as MiB or GiB, or n/a."""
    if count is None:
        return MISSING
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def remarks(records: Sequence[Record]) -> list[str]:
    """Return what stands below the table: how it ended, the device, and each warning once."""
    timed = [r.throughput for r in records if r.throughput]
    said = [sessions(timed[0])] if timed else []
    said += [text for r in records if (text := disagreement(r)) is not None]
    said += [text for r in records if (text := mixture(r)) is not None]
    said += device_lines(records[0].machine) if records else []
    said += shared(records, {r.case.arm: f"{r.status}: {r.reason}" for r in records if r.status != "ok"})
    weightless = {r.case.arm: r.memory.missing.get("peak_bytes") for r in records if r.memory}
    said += shared(records, {arm: f"no peak memory: {why}" for arm, why in weightless.items() if why})
    missing = {r.energy.missing for r in records if r.energy and r.energy.joules_per_graph is None}
    said += [f"energy n/a: {reason}" for reason in sorted(missing) if reason]
    notes = dict.fromkeys(note for record in records for note in record.notes)
    warned = [f"warning: {note.removeprefix(WARNING)}" for note in notes if note.startswith(WARNING)]
    return said + [f"note: {note}" for note in notes if not note.startswith(WARNING)] + warned


def sessions(speed: Throughput) -> str:
    """Say how the rounds went: how many, in how many processes, why they ended, by which clock."""
    each = speed.details.get("processes") or [{"rounds": speed.rounds}]
    rounds = " + ".join(str(one["rounds"]) for one in each)
    where = "one process" if len(each) == 1 else f"{len(each)} fresh processes, whose spread is in the intervals"
    alone = ", each optimizer in memory alone" if speed.details.get("apart") else ""
    why = {"precision": " (all ratios within 0.5 %)", "noise": " (the noise no longer changed)"}.get(speed.stopped, "")
    return (
        f"{rounds} interleaved rounds of {speed.details.get('block_steps')} steps in {where}{alone}; "
        f"stopped: {speed.stopped}{why}; clock: {speed.details.get('clock')}"
    )


def disagreement(record: Record) -> str | None:
    """Name the words that fresh processes gave a ratio, where they did not all give the same."""
    said = []
    each = (record.throughput.details.get("processes") if record.throughput else None) or []
    for peer in record.throughput.ratio_to if record.throughput else ():
        words = [_word(one["ratio_to"].get(peer)) for one in each]
        if len(set(words)) > 1:
            said.append(f"× {peer}: {', '.join(words)}")
    return f"{record.case.arm}: processes differ, {'; '.join(said)}" if said else None


def _word(ratio: Sequence[float | None] | None) -> str:
    if ratio is None:
        return MISSING
    return verdict(ratio[1] or 0.0, math.inf if ratio[2] is None else ratio[2])


def shared(records: Sequence[Record], said: Mapping[str, str]) -> list[str]:
    """Return one line for each different text of ``said`` (optimizer -> text), with the optimizers that it is about."""
    arms: dict[str, list[str]] = {}
    for arm, text in said.items():
        arms.setdefault(text, []).append(arm)
    return [f"{'all' if len(of) == len(records) > 1 else ', '.join(of)}: {text}" for text, of in arms.items()]


def mixture(record: Record) -> str | None:
    """Say of which steps of a training the speed is the mean, where they differ from phase to phase."""
    rhythm = record.throughput.details.get("rhythm", {}) if record.throughput else {}
    shares = {int(passes): share for passes, share in rhythm.get("shares", {}).items()}
    name = f"{record.case.arm}: the mean over a training of {rhythm.get('training_epochs')} epochs"
    if "early_share" in rhythm:
        return f"{name}: {rhythm['early_share']:.0%} of the steps come before its term begins"
    if rhythm.get("kind") == "late":
        return f"{name}: the last {shares[max(shares)]:.0%} of the steps take {max(shares)} passes"
    if rhythm.get("kind") != "data-dependent" or not rhythm.get("by_third"):
        return None
    thirds = [MISSING if x is None or math.isnan(x) else f"{x:.2f}" for x in rhythm["by_third"]]
    if MISSING in thirds:
        return f"{record.case.arm}: the beginning of training only: {thirds[0]} passes, from {rhythm['steps']} steps"
    return f"{name}: {', '.join(thirds)} passes in its thirds, counted over {rhythm['steps']} steps"


def device_lines(machine: Mapping[str, Any]) -> list[str]:
    """Describe the device: processor or GPU, driver, clocks, throttling, whether it was ours alone."""
    lines = []
    if machine.get("gpu"):
        measured = machine.get("measured", {})
        state = measured.get("nvml") or {}
        lines.append(f"{machine['gpu']}, driver {state.get('driver') or MISSING}, CUDA {machine.get('cuda')}")
        exclusive = measured.get("exclusive")
        alone = "unknown (" + str(measured.get("exclusive_unknown")) + ")" if exclusive is None else exclusive
        lines.append(
            f"SM clock MHz 5/50/95 %: {measured.get('sm_clock_mhz') or MISSING}; "
            f"throttled: {measured.get('throttle_shares') or ('none' if measured.get('nvml') else MISSING)}; "
            f"temperature: {measured.get('temperature_celsius') or MISSING}; exclusive: {alone}"
        )
    else:
        cores = machine.get("cpu_quota") or machine.get("usable_cores")
        lines.append(
            f"{machine.get('processor')}, {cores} cores, {machine.get('threads')} threads, load {machine.get('load')}"
        )
    return lines


# ---------------------------------------------------------------------------------------------- details


def detail_columns() -> list[str]:
    return ["optimizer", "loading ms", "forward ms", "backward ms", "optimizer ms", "sum/wall", "TFLOP/s", "atoms/s"]


def detail_cells(record: Record) -> list[str] | None:
    """Return the cells of --detail, or None where there are none."""
    speed = record.throughput
    phases = speed.details.get("phases_seconds") if speed else None
    if speed is None or phases is None:
        return None
    times = [f"{phases.get(name, 0.0) * 1e3:.2f}" for name in ("loading", "forward", "backward", "optimizer")]
    over = speed.details["phases_sum_over_wall"]
    sums = f"{over:.3f}" + ("" if speed.details["phases_add_up"] else " (does not add up)")
    rate = speed.details.get("tflop_per_second")
    return [record.case.arm, *times, sums, number(rate, digits=3), number(speed.atoms_per_second)]


def details(records: Sequence[Record]) -> list[list[str]]:
    return [cells for record in records if (cells := detail_cells(record)) is not None]


# ---------------------------------------------------------------------------------------------- forms


def render(records: Sequence[Record], *, form: str) -> str:
    """Return Markdown, CSV or JSON."""
    if form == "json":
        return json.dumps([to_json(record) for record in records], indent=1, ensure_ascii=False)
    if form == "csv":
        return _csv(records)
    peers, titles = anchors(records), columns(records)
    lines = ["| " + " | ".join(titles) + " |", "|" + "|".join(["---"] + ["---:"] * (len(titles) - 1)) + "|"]
    lines += ["| " + " | ".join(map(_escaped, cells(r, peers, energy="J/graph" in titles))) + " |" for r in records]
    return "\n".join([*lines, "", *(f"- {_escaped(text)}" for text in remarks(records))])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _csv(records: Sequence[Record]) -> str:
    flat = []
    for row in rows(records):
        plain = {key: value for key, value in row.items() if not isinstance(value, dict)}
        nested = {
            f"{k}_{inner}": v for k, value in row.items() if isinstance(value, dict) for inner, v in value.items()
        }
        flat.append(plain | nested)
    titles = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, titles, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().rstrip("\n")


def screen(records: Sequence[Record], *, title: str) -> list[RenderableType]:
    """Return what is printed on a terminal: the table, the details and the remarks."""
    from rich.text import Text

    peers, titles = anchors(records), columns(records)
    shown = [cells(r, peers, energy="J/graph" in titles) for r in records]
    parts: list[RenderableType] = [Text(title, style="bold"), _drawn(titles, shown)]
    more = details(records)
    if more:
        parts.append(_drawn(detail_columns(), more))
    parts += [Text(text, style="yellow" if text.startswith("warning") else "dim") for text in remarks(records)]
    return parts


def _drawn(titles: Sequence[str], shown: Sequence[Sequence[str]]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, title in enumerate(titles):
        drawn.add_column(title, justify="right" if i else "left", no_wrap=True)
    for row in shown:
        drawn.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return drawn


def _style(cell: str) -> str:
    words = {"fast": "green", "slow": "red", "ambiguous": "yellow"}
    return words.get(cell.rpartition(" ")[2], "")
