"""Datasets made by code: damaged or deceptive ones, each with the verdict it deserves, and clean ones without alarm.

A case writes its files below a folder and gives the flags that are special to it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CORPUS = Path(__file__).parents[2] / "examples" / "pydocs" / "data"
Make = Callable[[Path], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """make: writes below a folder; what it returns are flags, `dataset_name` the folder unless it names another.

    verdict: empty where there is no report, as nothing could be looked at; codes: all findings graver than notes, but
    for `no-rows`, which every file being unfit brings; findings: further ones that must be there.
    """

    name: str
    make: Make
    code: int = 0
    verdict: str = "go"
    codes: frozenset[str] = frozenset()
    findings: frozenset[str] = frozenset()
    said: str = ""
    flags: tuple[str, ...] = ()
    model: bool = True


TRAPS: list[Case] = []
CLEAN: list[Case] = []


def trap(
    code: int,
    verdict: str,
    *codes: str,
    also: Sequence[str] = (),
    said: str = "",
    flags: Sequence[str] = (),
    model: bool = True,
) -> Callable[[Make], Make]:
    """Registers a trap by the name of its function."""

    def register(make: Make) -> Make:
        TRAPS.append(
            Case(
                name=make.__name__, make=make, code=code, verdict=verdict, codes=frozenset(codes),
                findings=frozenset(also), said=said, flags=tuple(flags), model=model,
            )
        )  # fmt: skip
        return make

    return register


def clean(make: Make) -> Make:
    """Registers a clean dataset."""
    CLEAN.append(Case(name=make.__name__, make=make))
    return make


@cache
def paragraphs() -> list[str]:
    """Real prose, some 2,000 different paragraphs."""
    documents = [t for p in sorted(CORPUS.glob("*.parquet")) for t in pq.read_table(p).column("text").to_pylist()]
    found = (p.strip() for d in documents for p in d.split("\n\n"))
    return list(dict.fromkeys(p for p in found if len(p) > 200))


def prose(n: int, start: int = 0) -> list[Any]:
    """n different paragraphs."""
    assert start + n <= len(paragraphs())
    return list(paragraphs()[start : start + n])


def write(folder: Path, number: int, texts: Sequence[Any], kind: Any = None, rows: int = 20, **columns: Any) -> Path:
    """One shard."""
    path = folder / f"part-{number:03}.parquet"
    table = pa.table({"text": pa.array(texts, kind or pa.string()), **columns})
    pq.write_table(table, path, row_group_size=rows)
    return path


def shards(folder: Path, n: int = 8, rows: int = 40, first: int = 0) -> None:
    """Sound shards."""
    for i in range(n):
        write(folder, first + i, prose(rows, (first + i) * rows))


def lines(path: Path, texts: Sequence[Any], key: str = "text", end: str = "\n") -> bytes:
    """JSON lines of some texts, written and returned."""
    data = "".join(json.dumps({key: t, "n": i}, ensure_ascii=False) + end for i, t in enumerate(texts)).encode()
    path.write_bytes(data)
    return data


GERMAN = [
    "Der Müller öffnet am Morgen das Wehr, und das Wasser läuft durch den schmalen Graben zum Rad hinunter.",
    "Nicht jeder im Dorf weiß, wie viel Arbeit es ist, die Steine zu schärfen und den Kanal sauber zu halten.",
    "Im Winter, wenn das Eis bricht, muss er nachts aufstehen und die Schaufeln mit einer langen Stange befreien.",
    "Früher brachten die Bauern ihr Korn auf Wagen, heute kommen nur noch wenige, und die Säcke sind kleiner geworden.",
    "Seine Tochter möchte die Mühle trotzdem weiterführen, denn sie mag das Geräusch des Rades und den Mehlgeruch.",
    "Zwischen den Balken wohnen Schwalben, die jedes Jahr zurückkehren, obwohl es dort laut ist und der Boden zittert.",
    "Wenn das Hochwasser kommt, zieht man die Bretter heraus, damit der Fluss nicht über das Ufer in die Keller tritt.",
]
CHINESE = [
    "磨坊主早上打开闸门，水沿着狭窄的水渠流向水轮。",
    "不是每个人都知道磨石要花多少功夫。",
    "冬天结冰的时候，他夜里也要起来。",
]


def varied(sentences: Sequence[str], n: int, between: str = " ") -> list[Any]:
    """n documents of the words of some sentences, or of their characters, each in an order of its own."""
    words = [w for s in sentences for w in (s.split() if between else s)]
    return [between.join(random.Random(i).choices(words, k=60)) + f"{between}{i}" for i in range(n)]
