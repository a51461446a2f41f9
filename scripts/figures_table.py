"""Write the figures of benchmarks/results/*.json into README.md and pages of docs: benchmarks, reliability, scaling,
table1.

Usage: figures_table.py [--check]. README shows the chosen few, docs/benchmarks.md all, docs/reliability.md promises,
docs/scaling.md what a corpus costs.
`--check` changes nothing and exits 1 when they are stale.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from model.cost import VOXCELEB2, cost_table  # noqa: E402  (the path is set above)
from model.results import Figure, Results, read_results  # noqa: E402
from stream_server.bench.browser_faults import browser_fault_table  # noqa: E402
from stream_server.bench.fault_report import fault_table, process_fault_table  # noqa: E402

BEGIN = "<!-- figures: made from benchmarks/results by scripts/figures_table.py -->"
END = "<!-- end figures -->"

OWN_PAGES = {"table1": "[table1.md](table1.md)"}
"""Results that are shown on a page of their own."""
README_FIGURES = (
    ("first_light_cpu", "best_256.fps", "256 x 256, whole pipeline with VP8, one thread"),
    ("first_light_cpu", "best_256.cpu_share_at_25fps", "share of two cores at 25 fps"),
    ("first_light_cpu", "avx2_192.fps", "192 x 192 with the kernel forced to AVX2"),
    ("browser_loopback", "fps", "frames per second received by Chromium over 20 s"),
    ("browser_loopback", "algorithmic_delay", "algorithmic delay (hop and look-ahead)"),
    ("browser_loopback", "microphone_to_frame_own_p50", "microphone to frame beyond that, median"),
    ("browser_loopback", "microphone_to_frame_own_p95", "microphone to frame beyond that, 95th percentile"),
    ("browser_loopback", "av_offset_median", "audio against video at the browser, median"),
    (
        "latency_call",
        "microphone_to_mouth_p50",
        "microphone to mouth at a caller without buffers, 256 px, median",
    ),
    ("latency_call", "microphone_to_mouth_p95", "the same, 95th percentile"),
    ("latency_call", "av_offset_drift", "how far sound and picture drift apart in that call of five minutes"),
    ("latency_low", "microphone_to_mouth_p50", "microphone to mouth with `--low-latency`, 128 px, one step, median"),
    ("session", "share_of_two_cores", "a 256 px call's share of two cores, its caller excluded"),
    ("load", "capacity", "callers at 128 px, one step, that two cores carry together with the callers' own processes"),
    ("field_capture", "sequence_head_psnr", "picture of the head against held-out frames of the capture"),
    ("field_capture", "novel_head_psnr", "the same when the camera orbits instead of the head turning"),
    ("reconstruction_video", "reconstruction.true_motion.psnr_face", "avatar from 60 GRID clips, true motion: head"),
    ("reconstruction_video", "reconstruction.true_motion.identity_cosine", "identity of that avatar"),
    ("prototype", "kernel_over_prototype", "time of the kernel over the prototype's, one field"),
    (
        "views_capture",
        "turn_head_psnr_drop_15_20deg",
        "what a head turn of 15 to 20 degrees takes from the head's picture",
    ),
    ("views_capture", "landmark_error", "landmarks of rendered frames against those of real ones"),
    ("lips_grid", "lip_opening_r", "lip opening against held-out video, same speaker (r)"),
    ("lips_grid", "lip_opening_r_energy_alone", "the same from loudness alone (r)"),
    ("lips_grid", "drop_with_shuffled_phonemes", "loss of r when phonemes are shuffled at equal energy"),
    ("lips_grid", "strangers_lip_opening_r", "lip opening of seven other speakers (r)"),
    ("distillation", "student_2.speedup", "two-step student against its teacher with 50 steps, times faster"),
    ("distillation", "student_2.hop_ms", "sampling and decoding an 80 ms hop, one thread"),
    ("distillation", "against_truth.spread_error", "spread of samples over the error of their mean (1 is calibrated)"),
    ("distillation", "against_truth.crps", "CRPS of samples of the lip opening"),
    ("distillation", "grid_val.deterministic_twin.opening_crps", "absolute error of the deterministic twin"),
    ("lips_grid", "closure_f1", "closed lips at p, b, m and open ones at vowels (F1), same speaker"),
    (
        "reconstruction_capture",
        "reconstruction.served.psnr_face",
        "face moved by sound (true pose and eyes), 3 videos, 2 seen",
    ),
    (
        "reconstruction_capture",
        "reconstruction.true_motion.psnr_face",
        "the same moved by the true motion: the ceiling",
    ),
    ("speech_hearing", "strangers_phone_accuracy", "39 phones of seven speakers never trained on, frames right"),
    ("speech_hearing", "strangers_viseme_accuracy", "12 mouth shapes of the same"),
    ("speech_hearing", "strangers_drop_by_babble_10_db", "what 10 dB of babble takes from the phones"),
    ("speech_hearing", "strangers_lip_opening_r_features", "their lip opening, by a small net on our features (r)"),
    ("speech_hearing", "strangers_lip_opening_r_log_mel", "the same net on log-mel (r)"),
    ("speech_hearing", "drive_music_lips", "movement of the mouth in instrumental music, of that in speech"),
    ("speech_cpu", "ears_batch1_share_of_hop_per_session", "log-mel, encoder and fusion, of an 80 ms hop on one core"),
    ("sync_grid", "grid_val.truth.critic_shift_exact", "shifts of sound that our sync critic finds exactly"),
    ("marks", "vp8_500k.detected", "one-second clips whose invisible mark is read after VP8 at 500 kb/s"),
    (
        "marks",
        "vp8_500k_darker_rescale_crop.detected",
        "the same, then darker by 20 %, at 75 % size, 10 % off each edge",
    ),
    ("marks", "psnr", "the invisible mark's PSNR"),
    ("marks", "unmarked_filmed_rate_bound", "bound on false alarms of filmed video, per second of it"),
    ("faces_capture", "sequence_rotation_error_median", "head rotation read from video, against exact truth"),
    ("faces_capture", "sequence_mouth_landmarks", "lip landmarks against exact truth"),
    ("faces_capture", "sequence_arkit_jawOpen_r", "ARKit jawOpen read from video, against exact truth (r)"),
    ("faces_grid", "still_head_jitter", "trembling of a still head, real video"),
    ("prepare", "clips_per_minute", "clips of 3 s prepared per minute on two cores"),
)


def main(arguments: list[str]) -> int:
    """Write, or with `--check` compare; the exit code."""
    results = {p.stem: read_results(p) for p in sorted((ROOT / "benchmarks" / "results").glob("*.json"))}
    stale = False
    tables = {
        ROOT / "README.md": _readme(results),
        ROOT / "docs" / "benchmarks.md": _all(results),
        ROOT / "docs" / "reliability.md": _promises(results),
        ROOT / "docs" / "scaling.md": _costs(results),
    }
    for path, table in tables.items():
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        wanted = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"
        stale |= wanted != text
        if "--check" not in arguments:
            path.write_text(wanted, encoding="utf-8")
    if "--check" not in arguments and "table1" in results:
        from model.evaluation.table_page import table_page  # loads torch: the tests compare this page themselves

        page = table_page(results["table1"], ROOT / "benchmarks" / "results")
        (ROOT / "docs" / "table1.md").write_text(page, encoding="utf-8")
    if stale and "--check" in arguments:
        print("README.md or a page of docs is stale: run scripts/figures_table.py")
        return 1
    return 0


def _readme(results: dict[str, Results]) -> str:
    lines = ["| | | from |", "|---|---|---|"]
    for name, figure, words in README_FIGURES:
        if name in results and figure in results[name].figures:
            lines.append(f"| {words} | {_value(results[name].figures[figure])} | `{name}.json` |")
    hardware = next(iter(results.values())).hardware if results else {}
    lines.append("")
    lines.append(f"On {hardware.get('cores', '?')} cores of a shared {hardware.get('cpu', 'machine')}; no GPU.")
    return "\n".join(lines)


def _promises(results: dict[str, Results]) -> str:
    """Faults, then what only long runs show."""
    parts = []
    if "faults" in results:
        faults = results["faults"]
        tables = (fault_table(faults), process_fault_table(faults))
        parts += ["\n".join(table) for table in tables if table] + [_about(faults)]
    if "faults_browser" in results:
        parts += ["\n".join(browser_fault_table(results["faults_browser"])), _about(results["faults_browser"])]
    for name in ("soak", "virtual_day"):
        if name in results:
            parts += ["\n".join(_promised(results[name])), _about(results[name])]
    if "fuzz" in results:
        parts += ["\n".join(_fuzz(results["fuzz"].figures)), _about(results["fuzz"])]
    return "\n\n".join(parts)


def _costs(results: dict[str, Results]) -> str:
    """What training on VoxCeleb2 costs."""
    if "cost" not in results:
        return ""
    return "\n".join([*cost_table(results["cost"].figures, VOXCELEB2), "", _about(results["cost"])])


def _about(result: Results) -> str:
    return f"`{result.command}` at {result.commit}, {result.date}; {result.data}."


def _promised(result: Results) -> list[str]:
    lines = ["| figure | promised | measured |", "|---|---|---|"]
    for name, figure in result.figures.items():
        if figure.goal is not None:
            limit = "at least" if figure.better == "higher" else "at most"
            missed = " **missed**" if figure.missed else ""
            interval = "" if figure.interval is None else f" ({figure.interval[0]:.2g} .. {figure.interval[1]:.2g})"
            value = f"{_value(figure)}{interval}{missed}"
            lines.append(f"| {name.replace('_', ' ')} | {limit} {figure.goal:g} {figure.unit} | {value} |")
    return lines


def _fuzz(figures: Mapping[str, Figure]) -> list[str]:
    """A row for each target; crashes are promised to be none."""
    columns = ("cpu", "cases", "places", "crashes", "slowest", "memory")
    lines = ["| fuzzed | CPU time | cases | places reached | crashes | slowest | memory gained |", "|---" * 7 + "|"]
    for target in dict.fromkeys(name.partition(".")[0] for name in figures):
        cells = [figures[f"{target}.{column}"] for column in columns]
        shown = [f"{cell.value:,.0f}" + (f" {cell.unit}" if cell.unit in {"s", "ms", "MB"} else "") for cell in cells]
        lines.append(f"| {target} | " + " | ".join(shown) + " |")
    return lines


def _all(results: dict[str, Results]) -> str:
    parts = []
    for name, result in results.items():
        machine = (
            f"{result.hardware.get('cores')} cores, {result.hardware.get('cpu')}, GPU {result.hardware.get('gpu')}"
        )
        parts.append(
            f"### {name}\n\n`{result.command}` at {result.commit}, {result.date}; {machine}. Data: {result.data}.\n"
        )
        if name in OWN_PAGES:
            parts.append(f"{len(result.figures)} figures: {OWN_PAGES[name]}.\n")
            continue
        tables, plain = _split(result.figures)
        if plain:
            parts.append("| figure | value | spread | goal | |\n|---|---|---|---|---|")
        for figure_name, figure in plain.items():
            spread = "" if figure.spread is None else f"{figure.spread:.3g}"
            goal = "" if figure.goal is None else f"{'>=' if figure.better == 'higher' else '<='} {figure.goal:g}"
            missed = "**missed**" if figure.missed else ""
            parts.append(f"| {figure_name} | {_value(figure)} | {spread} | {goal} | {missed} |")
        parts.append("")
        for table, cells in tables.items():
            parts += [_method_table(table, cells), ""]
    return "\n".join(parts)


def _split(figures: Mapping[str, Figure]) -> tuple[dict[str, dict[tuple[str, str], Figure]], dict[str, Figure]]:
    """Figures named `table.method.metric` by table, and the others."""
    tables: dict[str, dict[tuple[str, str], Figure]] = {}
    plain = {}
    for name, figure in figures.items():
        if name.count(".") == 2:
            table, method, metric = name.split(".")
            tables.setdefault(table, {})[method, metric] = figure
        else:
            plain[name] = figure
    return tables, plain


def _method_table(name: str, cells: Mapping[tuple[str, str], Figure]) -> str:
    """Metrics down, methods across; the 95 % intervals are in the JSON."""
    methods = list(dict.fromkeys(method for method, _ in cells))
    lines = ["| " + " | ".join([name, *methods]) + " |", "|" + "---|" * (len(methods) + 1)]
    for metric in dict.fromkeys(metric for _, metric in cells):
        row = [_cell(cells.get((method, metric))) for method in methods]
        lines.append("| " + " | ".join([metric, *row]) + " |")
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.3g}" + (" **missed**" if figure.missed else "")


def _value(figure: Figure) -> str:
    unit = "" if figure.unit in {"r", "1"} else f" {figure.unit}"
    return f"{figure.value:.3g}{unit}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
