"""What profile sessions measured, a table each: on the screen, in Markdown, LaTeX, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp.analysis.names import are, plain, short_names
from samcmp.analysis.numbers import counted, memory, rate
from samcmp.printable import csv_cell, printable_json
from samcmp.profiling import WARNING
from samcmp.records import Ratio, Record, Throughput, speed_word, to_json
from samcmp.report import latex
from samcmp.report.grid import Column, Entry, Grid
from samcmp.report.markdown import bullets, escape, grid_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

MISSING = "n/a"
PHASES = ("loading", "forward", "backward", "optimizer")
STYLES = {"faster": "green", "slower": "red", "ambiguous": "yellow"}


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one mapping an optimizer; what was not measured is None."""
    return [_row(record) for record in records]


def _row(record: Record) -> dict[str, Any]:
    speed, peak, energy = record.throughput, record.memory, record.energy
    row: dict[str, Any] = {
        "dataset": record.case.dataset,
        "model": record.case.model,
        "device": record.case.device,
        "optimizer": record.case.arm,
        "status": record.status,
        "reason": record.reason,
        "batch_size": record.case.protocol.batch_size,
        "holds": record.holds,
        "graphs_per_second": speed.graphs_per_second if speed else None,
        "pipeline_graphs_per_second": speed.pipeline_graphs_per_second if speed else None,
        "atoms_per_second": speed.atoms_per_second if speed else None,
        "passes_per_step": speed.passes_per_step if speed else None,
        "of_bound": speed.efficiency if speed else None,
        "peak_bytes": peak.peak_bytes if peak else None,
        "joules_per_graph": energy.joules_per_graph if energy else None,
        "rounds": speed.rounds if speed else None,
        "stopped": speed.stopped if speed else None,
    }
    for peer, ratio in (speed.ratio_to if speed else {}).items():
        row[f"x_{peer}"] = {"ratio": ratio[0], "low": ratio[1], "high": ratio[2], "verdict": _word(ratio)}
    return row


def _word(ratio: Ratio | Sequence[float | None]) -> str:
    return speed_word(ratio[1], ratio[2])


def references(records: Sequence[Record]) -> list[str]:
    """Return the references of the ratios: SAM first, then the base."""
    peers = dict.fromkeys(peer for r in records if r.throughput for peer in r.throughput.ratio_to)
    return sorted(peers, key=lambda peer: peer != "sam")


# ---------------------------------------------------------------------------------------------- tables


def table(records: Sequence[Record], *, title: str = "") -> Grid:
    """Lay out speeds, ratios, passes and memory, a row an optimizer."""
    peers = references(records)
    energy = any(r.energy and r.energy.joules_per_graph is not None for r in records)
    what = counted(r.holds for r in records) if records else "graphs"
    titles = [f"{what}/s", "with loading", *(f"× {peer}" for peer in peers), "passes", "of bound", "peak memory"]
    columns = [Column("optimizer", right=False), *map(Column, [*titles, *[f"J/{what.removesuffix('s')}"] * energy])]
    names = names_of(records)
    lines = tuple(_line(record, names[record.case.arm], peers, energy=energy) for record in records)
    return Grid(tuple(columns), lines, title=title, remarks=tuple(remarks(records)))


def names_of(records: Iterable[Record]) -> dict[str, str]:
    """Return the short name of each optimizer."""
    return short_names(dict.fromkeys(record.case.arm for record in records))


def _line(record: Record, name: str, peers: Sequence[str], *, energy: bool) -> tuple[Entry, ...]:
    speed, peak = record.throughput, record.memory
    if speed is None:
        return (Entry(name), Entry(record.status), *[Entry("")] * (len(peers) + 4 + energy))
    shown = [
        Entry(name),
        Entry(_or_missing(rate(speed.graphs_per_second))),
        Entry(_or_missing(rate(speed.pipeline_graphs_per_second))),
        *(_ratio(speed.ratio_to.get(peer), same=record.case.arm == peer) for peer in peers),
        Entry(MISSING if speed.passes_per_step is None else f"{speed.passes_per_step:.2f}"),
        Entry(MISSING if speed.efficiency is None else f"{speed.efficiency:.2f}"),
        Entry(_or_missing(memory(peak.peak_bytes if peak else None))),
    ]
    joules = record.energy.joules_per_graph if record.energy else None
    return (*shown, *[Entry(MISSING if joules is None else f"{joules:.3g}")] * energy)


def _or_missing(text: str | None) -> str:
    return MISSING if text is None else text


def _ratio(ratio: Ratio | None, *, same: bool) -> Entry:
    if ratio is None:
        return Entry("1" if same else MISSING)
    value, low, high = ratio
    if not low or high is None or not math.isfinite(high):
        return Entry(f"{value:.2f} (one round)")
    word = _word(ratio)
    return Entry(f"{value:.2f} [{low:.2f}, {high:.2f}] {word}", style=STYLES.get(word, ""))


def detail_table(records: Sequence[Record]) -> Grid:
    """Lay out where a step's time goes, for the optimizers whose phases were timed."""
    atoms = any(record.holds == "molecules" for record in records)
    columns = ("optimizer", *(f"{name} ms" for name in PHASES), "sum/wall", "TFLOP/s", *["atoms/s"] * atoms)
    names = names_of(records)
    lines = [_details(names[r.case.arm], r.throughput, atoms=atoms) for r in records if r.throughput]
    return Grid(tuple(Column(name, right=i > 0) for i, name in enumerate(columns)), tuple(filter(None, lines)))


def _details(arm: str, speed: Throughput, *, atoms: bool) -> tuple[Entry, ...]:
    seconds = speed.details.get("phases_seconds")
    if seconds is None:
        return ()
    adds_up = "" if speed.details["phases_add_up"] else " (does not add up)"
    tflops = speed.details.get("tflop_per_second")
    texts = (
        arm,
        *(f"{seconds.get(name, 0.0) * 1e3:.2f}" for name in PHASES),
        f"{speed.details['phases_sum_over_wall']:.3f}{adds_up}",
        MISSING if tflops is None else f"{tflops:.3g}",
        *[_or_missing(rate(speed.atoms_per_second))] * atoms,
    )
    return tuple(map(Entry, texts))


# ---------------------------------------------------------------------------------------------- remarks


def remarks(records: Sequence[Record]) -> list[str]:
    """Return what stands below the table: how it ended, the device, and each warning once."""
    names = names_of(records)
    timed = [r.throughput for r in records if r.throughput]
    said = [rounds(timed[0])] if timed else []
    said += [f"{names[r.case.arm]}: {text}" for r in records if (text := disagreement(r)) is not None]
    said += [f"{names[r.case.arm]}: {text}" for r in records if (text := mean_of(r)) is not None]
    said += device_lines(records[0].machine) if records else []
    said += shared(records, {names[r.case.arm]: f"{r.status}: {r.reason}" for r in records if r.status != "ok"})
    unweighed = {names[r.case.arm]: r.memory.missing.get("peak_bytes") for r in records if r.memory}
    said += shared(records, {arm: f"no peak memory: {why}" for arm, why in unweighed.items() if why})
    missing = {r.energy.missing for r in records if r.energy and r.energy.joules_per_graph is None}
    said += [f"energy n/a: {reason}" for reason in sorted(missing) if reason]
    files = are({plain(names[r.case.arm]): plain(r.case.arm) for r in records})
    said += [files] * bool(files)
    notes = dict.fromkeys(note for record in records for note in record.notes)
    warned = [f"warning: {note.removeprefix(WARNING)}" for note in notes if note.startswith(WARNING)]
    return said + [f"note: {note}" for note in notes if not note.startswith(WARNING)] + warned


def rounds(speed: Throughput) -> str:
    """Say how the rounds went: how many, in how many processes, why they ended, by which clock."""
    each = speed.details.get("processes") or [{"rounds": speed.rounds}]
    counts = " + ".join(str(one["rounds"]) for one in each)
    where = "one process" if len(each) == 1 else f"{len(each)} fresh processes, whose spread is in the intervals"
    alone = ", each optimizer in memory alone" if speed.details.get("one_at_a_time") else ""
    why = {"precision": " (all ratios within 0.5 %)", "noise": " (the noise no longer changed)"}.get(speed.stopped, "")
    return (
        f"{counts} interleaved rounds of {speed.details.get('block_steps')} steps in {where}{alone}; "
        f"stopped: {speed.stopped}{why}; clock: {speed.details.get('clock')}"
    )


def disagreement(record: Record) -> str | None:
    """Name the words that fresh processes gave a ratio, where they did not all give the same."""
    said = []
    each = (record.throughput.details.get("processes") if record.throughput else None) or []
    for peer in record.throughput.ratio_to if record.throughput else ():
        ratios = [one["ratio_to"].get(peer) for one in each]
        words = [MISSING if ratio is None else _word(ratio) for ratio in ratios]
        if len(set(words)) > 1:
            said.append(f"× {peer}: {', '.join(words)}")
    return f"processes differ, {'; '.join(said)}" if said else None


def shared(records: Sequence[Record], said: Mapping[str, str]) -> list[str]:
    """Return one line for each different text of ``said`` (optimizer -> text), with the optimizers that it is about."""
    arms: dict[str, list[str]] = {}
    for arm, text in said.items():
        arms.setdefault(text, []).append(arm)
    return [f"{'all' if len(of) == len(records) > 1 else ', '.join(of)}: {text}" for text, of in arms.items()]


def mean_of(record: Record) -> str | None:
    """Say of which steps a speed is the mean, where they differ in ways that a reader may not expect."""
    details = record.throughput.details if record.throughput else {}
    kinds = details.get("step_kinds") or {}
    epochs = kinds.get("training_epochs")
    if "first_epochs_share" in kinds:
        share = kinds["first_epochs_share"]
        return f"the mean over {epochs} epochs: {share:.0%} of the steps come before its term begins"
    if kinds.get("share_is") == "counted":
        return _counted(kinds)
    if kinds:
        share = kinds["two_pass_share"]
        return f"{share:.2%} of its steps take two passes, as in a training of {epochs} epochs"
    undeclared = details.get("undeclared_passes")
    if undeclared:
        return f"steps of {undeclared[0]} to {undeclared[1]} passes, timed as they came: it declares no kinds"
    return None


def _counted(kinds: Mapping[str, Any]) -> str:
    """A share that the gradients decide is that of a model at the beginning of its training."""
    thirds = [MISSING if x is None or math.isnan(x) else f"{x:.2f}" for x in kinds["passes_by_third"]]
    return (
        f"{kinds['two_pass_share']:.0%} of its steps take two passes, counted over {kinds['counted_steps']} "
        f"steps ({', '.join(thirds)} passes in the thirds of a training's clock) of a model that was hardly trained; "
        "`samcmp compare` takes the share that its training runs had"
    )


def device_lines(machine: Mapping[str, Any]) -> list[str]:
    """Describe the device: processor or GPU, driver, clocks, throttling, whether it was ours alone."""
    if not machine.get("gpu"):
        cores = machine.get("cpu_quota") or machine.get("usable_cores")
        threads, load = machine.get("threads"), machine.get("load")
        return [f"{machine.get('processor')}, {cores} cores, {threads} threads, load {load}"]
    measured = machine.get("measured", {})
    state = measured.get("nvml") or {}
    exclusive = measured.get("exclusive")
    alone = f"unknown ({measured.get('exclusive_unknown')})" if exclusive is None else exclusive
    return [
        f"{machine['gpu']}, driver {state.get('driver') or MISSING}, CUDA {machine.get('cuda')}",
        f"SM clock MHz 5/50/95 %: {measured.get('sm_clock_mhz') or MISSING}; "
        f"throttled: {measured.get('throttle_shares') or ('none' if measured.get('nvml') else MISSING)}; "
        f"temperature: {measured.get('temperature_celsius') or MISSING}; exclusive: {alone}",
    ]


# ---------------------------------------------------------------------------------------------- forms


def title(records: Sequence[Record]) -> str:
    """Name what a session measured: dataset, model, batch size, parameters, device."""
    case, count = records[0].case, records[0].parameters
    size = "" if count is None else f", {count:,} parameters"
    return f"{case.dataset} · {case.model}{size} · batch {case.protocol.batch_size} · {case.device}"


def grids(records: Sequence[Record]) -> list[Grid]:
    """Lay out a session: the speeds, and where a step's time goes where that was timed."""
    main, details = table(records, title=title(records)), detail_table(records)
    return [main, details] if details.rows else [main]


def render(sessions: Sequence[Sequence[Record]], *, form: str) -> str:
    """Return CSV, JSON, or Markdown or LaTeX with a table a session; all end in a line break."""
    records = [record for session in sessions for record in session]
    if form == "json":
        return printable_json(json.dumps([to_json(record) for record in records], indent=1, ensure_ascii=False)) + "\n"
    if form == "csv":
        return _csv(records)
    layouts = [grid for session in sessions for grid in grids(session)]
    if form == "latex":
        return latex.document(layouts)
    blocks = [
        [f"**{escape(grid.title)}**", ""] * bool(grid.title) + grid_lines(grid) + bullets(grid.remarks)
        for grid in layouts
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _flat(records: Sequence[Record]) -> list[dict[str, Any]]:
    flat = []
    for row in rows(records):
        plain = {key: value for key, value in row.items() if not isinstance(value, dict)}
        nested = {
            f"{k}_{inner}": v for k, value in row.items() if isinstance(value, dict) for inner, v in value.items()
        }
        flat.append(plain | nested)
    return flat


def _csv(records: Sequence[Record]) -> str:
    flat = _flat(records)
    titles = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, titles, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in flat)
    return out.getvalue()


def to_parquet(sessions: Sequence[Sequence[Record]], path: Path) -> None:
    """Write a row an optimizer and session to ``path`` as Parquet."""
    import pandas

    pandas.DataFrame(_flat([record for session in sessions for record in session])).to_parquet(path, index=False)


def screen(records: Sequence[Record]) -> list[RenderableType]:
    """Return what is printed on a terminal for one session: the table, the details and the remarks."""
    from rich.text import Text

    from samcmp.report.terminal import Screen

    layouts = grids(records)
    parts: list[RenderableType] = [Text(layouts[0].title, style="bold"), *map(Screen, layouts)]
    remarked = layouts[0].remarks
    return parts + [Text(text, style="yellow" if text.startswith("warning") else "dim") for text in remarked]
