"""Runs validation and leaves what it found: report, manifest, held-out slice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from headrace.artifacts.bars import Bars
from headrace.artifacts.files import write_bytes, write_json
from headrace.artifacts.report import write_validation_report
from headrace.errors import Refused
from headrace.options import Options
from headrace.validate import report as reports
from headrace.validate import summary
from headrace.validate.findings import Thresholds
from headrace.validate.look import Looked, look

REPORT, REPORT_MD, REPORT_HTML = "report.json", "report.md", "report.html"
MANIFEST, HELDOUT, DUPLICATES = "manifest.json", "heldout.parquet", "duplicates.parquet"


def run(options: Options, output_dir: Path) -> dict[str, Any]:
    """Validate and write every file; facts for `outcome.json`. Refused for a no-go, after everything is written."""
    thresholds = Thresholds.parse(options.validate.validate_thresholds)
    remove_earlier(options, output_dir)
    with Bars(output_dir) as bars:
        looked = look(options, bars)
    report = reports.make(options, looked, thresholds)
    paths = write(output_dir, report, looked)
    sys.stdout.write(summary.terminal(report, paths) + "\n")
    sys.stdout.flush()
    refusals = [f for f in report["findings"] if f["severity"] == "no-go"]
    if refusals:
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        raise Refused(f"no-go: {refusals[0]['message'].rstrip('.')}{more}", refusals[0]["remedy"])
    return {
        "verdict": report["verdict"],
        "manifest_hash": looked.manifest.hash,
        "rows": looked.manifest.rows,
        "tokens": report["estimates"]["tokens"],
        "heldout": looked.heldout.digest if looked.heldout else None,
    }


def remove_earlier(options: Options, output_dir: Path) -> None:
    """Take away what an earlier validation left: should this one fail, it must not be taken for this one's answer.

    What this one reads itself (--manifest, --heldout, --duplicates) stays.
    """
    dataset = options.dataset
    read = {Path(named).resolve() for named in (dataset.manifest, dataset.heldout, dataset.duplicates) if named}
    for name in (REPORT, REPORT_MD, REPORT_HTML, MANIFEST, HELDOUT, DUPLICATES):
        if (output_dir / name).resolve() not in read:
            (output_dir / name).unlink(missing_ok=True)


def write(output_dir: Path, report: dict[str, Any], looked: Looked) -> list[tuple[str, str]]:
    """Write every file of a validation; what each is and where it lies."""
    title = f"Validation of {report['dataset']['name']}"
    write_json(output_dir / MANIFEST, looked.manifest.to_json())
    for name in (HELDOUT, DUPLICATES):  # what was read from here is written anew, or no longer true
        (output_dir / name).unlink(missing_ok=True)
    written = [("manifest", MANIFEST)]
    if looked.heldout is not None:
        looked.heldout.write(output_dir / HELDOUT)
        written.append(("held out", HELDOUT))
    if looked.duplicates is not None:
        looked.duplicates.write(output_dir / DUPLICATES)
        written.append(("copies", DUPLICATES))
    write_bytes(output_dir / REPORT_MD, summary.markdown(report, title).encode("utf-8", "replace"))
    write_validation_report(output_dir / REPORT_HTML, title=title, validation=report)
    write_json(output_dir / REPORT, report)
    written += [("report", REPORT), ("", REPORT_MD), ("", REPORT_HTML)]
    return [(what, str(output_dir / name)) for what, name in written]
