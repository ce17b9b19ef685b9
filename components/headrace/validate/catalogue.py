"""What a report may hold: every finding with its rule, every field with its meaning. docs/validation.md is made of it.

`python -m headrace.validate.catalogue` writes the tables of docs/validation.md; `--check` fails when they are stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from headrace.validate.findings import Thresholds

PATH = Path("docs/validation.md")


class Rule(NamedTuple):
    """When there is a finding, how grave it is then, and what to do in a word; its `remedy` says more."""

    severity: str
    when: str
    remedy: str


CODES: dict[str, Rule] = {
    "unreadable-file": Rule(
        "no-go",
        "a file cannot be opened, read or decoded, a line is no object, access is refused",
        "replace the file, or leave it out",
    ),
    "missing-column": Rule(
        "no-go",
        "a file lacks the text column, or a column that --dataset_filter looks at",
        "set --dataset_text_field",
    ),
    "wrong-type": Rule(
        "no-go",
        "the text column of a file holds something else than text, or a column what --dataset_filter cannot compare",
        "set --dataset_text_field to a column of text; compare with a value of the column's type",
    ),
    "unreadable-rows": Rule(
        "no-go",
        "a row group is damaged below a sound footer, or its text is not UTF-8",
        "replace the file, or leave it out",
    ),
    "no-rows": Rule("no-go", "no readable file has a row", "name another dataset, configuration or split"),
    "no-tokens": Rule(
        "no-go",
        "no row looked at gives a token, or the held-out slice takes every document",
        "check the column, or lower --heldout_fraction",
    ),
    "unusable-rows": Rule(
        "no-go, warn or info",
        "rows are null or blank: by `no_go_wasted` and `warn_wasted`",
        "check the column, or clean the source",
    ),
    "duplicate-rows": Rule(
        "no-go, warn or info",
        "rows are exact copies: by `no_go_wasted` and `warn_wasted`",
        "clean the source, or train with --dedup dataset",
    ),
    "wasted-rows": Rule(
        "no-go or warn",
        "both together are graver than each alone: by the same limits",
        "clean the source",
    ),
    "filtered-rows": Rule("info", "rows are left out by --dataset_filter", "nothing, if it is meant"),
    "damaged-text": Rule(
        "warn or info",
        "control characters, U+FFFD, UTF-8 decoded as something else: by `warn_damaged`",
        "look at the rows; mend them at the source",
    ),
    "overlap": Rule(
        "warn or info",
        "held-out documents whose 13-grams occur in training: by `overlap_ngrams`, `warn_overlap` and "
        "`warn_overlap_documents`; only the rows looked at are searched, the evidence says which share",
        "remove near copies, or evaluate on other data",
    ),
    "world-size": Rule(
        "warn or info",
        "more ranks than lanes, or filler rows: by `warn_efficiency` (needs --world_size)",
        "use a size that is named, or set --lanes",
    ),
    "idle-workers": Rule(
        "info",
        "--dataloader_num_workers is more than a rank has lanes",
        "ask for fewer workers, or set --lanes",
    ),
    "stream-rate": Rule(
        "info",
        "tokens a second that a rank gets, measured here; none where under 0.05 s were measured",
        "compare it with what a GPU trains",
    ),
    "stall": Rule(
        "info, or warn by `warn_stall`",
        "that is less than --gpu_tokens_per_s",
        "more cores and workers, nearer data, or tokenise first",
    ),
    "unknown-tokens": Rule(
        "info, or warn by `warn_unknown`",
        "0.1 % of the tokens or more stand for what is not known",
        "name the text's tokenizer",
    ),
    "byte-fallback": Rule(
        "info",
        "5 % of the tokens or more are single bytes that the vocabulary fell back to",
        "name a tokenizer made for the text",
    ),
    "tokenizer-fit": Rule(
        "info, or warn by `warn_bytes_per_token`",
        "a token stands for fewer than 2 bytes; usual are 3 to 5",
        "name a tokenizer made for the text",
    ),
    "unused-vocabulary": Rule(
        "info",
        "the model has over 1,024 ids more than the tokenizer gives (fewer ids are exit 2)",
        "check that model and tokenizer belong together",
    ),
    "personal-data": Rule(
        "info, or warn by `warn_private`",
        "e-mail addresses, telephone numbers, public IPv4 addresses, payment cards (with their checksum), "
        "IBANs (with theirs), US social security numbers, in the first 262,144 characters of a document",
        "look at the places; mask at the source",
    ),
    "secrets": Rule(
        "info, or warn by `warn_private`",
        "keys and tokens of AWS, GitHub, Hugging Face, Google and Slack, private keys, JSON web tokens",
        "look at the places; remove, and revoke real ones",
    ),
    "column-drift": Rule(
        "info, or warn by `warn_drift`",
        "files with 50 or more rows looked at differ by 0.5 or more in a column: total variation of "
        "categories, Kolmogorov and Smirnov's statistic of numbers",
        "look at the files; a glob or a filter leaves them out",
    ),
    "text-drift": Rule(
        "info, or warn by `warn_drift`",
        "files differ by 0.6 or more in their letter triples (one less the cosine), as languages do",
        "look at the files; a glob or a filter leaves them out",
    ),
    "long-documents": Rule(
        "info",
        "the longest document has 1,000 blocks or more, or more tokens than an equal lane",
        "split them, or filter by `characters`",
    ),
    "tiny-documents": Rule(
        "info",
        "half of the documents or more have fewer than 16 tokens",
        "join rows, or filter by `characters`",
    ),
    "held-out-slice": Rule(
        "info",
        "how much is held out; below 30 documents evaluation is coarse",
        "raise --heldout_fraction if it is small",
    ),
    "no-held-out-slice": Rule("info", "nothing is held out", "set --heldout_fraction"),
    "short-epoch": Rule("info", "a step trains more tokens than there are", "more data, or a smaller batch"),
    "large-row-groups": Rule("info", "a row group holds over 64 MiB of text", "write row groups of about 8 MB of text"),
    "small-row-groups": Rule(
        "info",
        "of 1,000 row groups or more half hold under 64 KiB of text",
        "write fewer, larger row groups",
    ),
    "few-units": Rule("info", "there are fewer row groups than lanes", "nothing for small data; else more row groups"),
    "whole-files": Rule(
        "info",
        "files can only be read from the beginning: compressed lines, CSV, plain text",
        "write Parquet or plain lines",
    ),
    "files-left-out": Rule(
        "info",
        "a folder on this machine has data files that are not read: of another format, of no split by their name, or "
        "with an ending that is not in small letters",
        "name all files by a glob, or rename them",
    ),
    "read-amplification": Rule(
        "info",
        "over 2 bytes are fetched, at most, for a byte of text that is trained",
        "more row groups, or fewer --lanes",
    ),
    "sampled": Rule(
        "info",
        "not every row was looked at, for the budget or the time",
        "raise the budget to look at more",
    ),
}
"""Every finding there is, by its code."""

FIELDS: dict[str, tuple[str, str]] = {
    "version": ("int", "2; changes when a field changes its meaning or goes"),
    "verdict": ("str", "go, warn or no-go: the gravest finding's"),
    "findings": ("list", "code, severity, message, evidence (an object), consequence, remedy; the gravest first"),
    "dataset": ("object", "name, config, split, revision, text_column, manifest_hash, files, row_groups, rows, "
                "text_bytes of the sound files"),
    "tokenizer": ("object", "name, hash, size (ids), eos_id"),
    "model": ("object", "name, type, vocab_size, max_positions; null where only a tokenizer was named"),
    "thresholds": ("object", "the limits that the verdict went by"),
    "plan": ("object or null", "the order that a training with the same flags would have; null without rows"),
    "heldout": ("object or null", "digest, documents, tokens of the held-out slice"),
    "facts": ("object", "what was counted in the rows looked at: looked_at (complete, rows, bytes, row_groups), nulls, "
              "blanks, duplicates, wasted_share, damaged, control_rows, replacement_rows, mojibake_rows, tokens, "
              "longest_tokens, percentiles of document_tokens, document_bytes and tokens_per_byte, vocabulary_used, "
              "unknown_tokens, byte_tokens (null where the tokenizer has none), private (matches by kind), overlap"),
    "estimates": ("object", "of the whole dataset: exact, tokens, documents, tokens_per_document and tokens_per_byte "
                  "(both without end-of-text tokens), tokens_interval, tokens_per_document_interval and "
                  "tokens_per_byte_interval (95 %; points where every row was read, null for one document), "
                  "heldout_tokens, train_tokens, and with a plan block, blocks, global_batch, steps_per_epoch"),
    "reading": ("object or null", "what reading by the plan costs a rank: lanes, lanes_per_rank, openings, "
                "spilled_row_groups, spilled_bytes, memory_bytes, largest_bytes, stored_per_text_byte, "
                "fetched_per_text_byte (all at most), and sample_amplification of the sample itself"),
    "measured": ("object", "speed of this machine, the one part that differs between two validations: "
                 "read_tokens_per_s and read_bytes_per_s of one reader, encoded_tokens_per_s of one core, readers, "
                 "encoders, encoder, rank_tokens_per_s, slower; null where too little was measured"),
    "columns": ("object", "other columns by name: rows, nulls, kind; of a category values ([value, rows], the 12 "
                "commonest that are codes), different (values), hidden (values that are no codes), other (rows of "
                "values that are not listed); of a number least, p5, p50, p95, most, edges, counts"),
    "histograms": ("object", "document_tokens and tokens_per_byte: edges, counts, median"),
}  # fmt: skip
"""Type and meaning of what stands in `report.json`."""


def tables() -> dict[str, str]:
    """The tables of the page by the name of their place."""
    limits = ((f"`{f.name}`", "" if f.default is None else f"{f.default:g}", f.metadata["help"]) for f in _limits())
    return {
        "findings": _table(
            ("code", "severity", "when", "what to do"), ((f"`{c}`", *rule) for c, rule in CODES.items())
        ),
        "thresholds": _table(("name", "default", "what it is"), limits),
        "fields": _table(("field", "type", "what it is"), ((f"`{n}`", *of) for n, of in FIELDS.items())),
    }


def _limits() -> Iterable[Any]:
    return fields(Thresholds)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(page: str) -> str:
    """The page with its tables made anew, between `<!-- NAME -->` and `<!-- end -->`."""
    for name, table in tables().items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        if not mark:
            raise ValueError(f"the page has no place for the table {name}")
        page = f"{before}{mark}{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return page


def main() -> int:
    """Write the page's tables, or say whether they are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the page is stale")
    args = parser.parse_args()
    page = PATH.read_text("utf-8")
    if args.check:
        return int(filled(page) != page)
    PATH.write_text(filled(page), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
