"""Judging anybody's layouts by the field's own metrics.

Always: alignment and overlap (LayoutGAN++'s, times 100; lower is better), and each of them in every published variant
and scale as alignment/PAPER and overlap/PAPER; mean_iou of the elements that overlap, elements (mean number of a
layout), uniqueness (fraction), diversity (mean distance in what labels cover). With --train: max_iou, class_distance,
label_count_distance, box_distance, count_distance, repeated (fraction of layouts of the training set), and fid, which
compares within one network only: the one that is trained on the training layouts, some minutes, or that of
--layoutnet. Of larger training sets max_iou looks at 1,000 layouts, and the distances at 10,000, drawn with seed 0.

faults counts by kind what is wrong, and is left out: broken files and entries; pages without an element, or with too
many; elements that leave the page, have no size, a number that is not finite, or a category that is unknown.
"""

import argparse
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from graft_lightning.domains.layouts.examples import LayoutFiles
from graft_lightning.domains.layouts.files import Paths, guessed_vocabulary, read_layouts, source_files
from graft_lightning.domains.layouts.inspection import OF_ELEMENTS, OF_PAGES, Inspection
from graft_lightning.domains.layouts.layout import Layout, padded
from graft_lightning.domains.layouts.metrics import (
    Alignment,
    BoxDistance,
    ClassDistance,
    CountDistance,
    Elements,
    LabelCountDistance,
    LayoutDiversity,
    LayoutFID,
    MaxIoU,
    MeanIoU,
    Overlap,
    Repeated,
    Uniqueness,
)
from graft_lightning.domains.layouts.metrics.means import ALIGNMENTS, OVERLAPS
from graft_lightning.domains.layouts.vocabularies import VOCABULARIES, vocabulary
from graft_lightning.types import SettingsError

CHUNK = 1024
"""Layouts that are looked at together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m graft_lightning score layouts` takes."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILES",
        help="COCO's JSON (.json), Rico's trees (.json) and lines (.txt), Magazine's .xml, our .jsonl; folders, "
        "archives",
    )
    parser.add_argument("--train", nargs="+", metavar="FILES", help="training layouts, for likeness, repetitions, FID")
    parser.add_argument(
        "--vocabulary", choices=list(VOCABULARIES), help="what the labels mean; by the files themselves by default"
    )
    parser.add_argument(
        "--max-elements",
        type=int,
        default=25,
        metavar="N",
        help="layouts with more are left out and counted; 0 takes any (default: 25)",
    )
    parser.add_argument("--portrait", action="store_true", help="leave out pages that are wider than high")
    parser.add_argument(
        "--off-page",
        choices=["drop", "clip"],
        default="drop",
        help="leave out elements that leave the page, or cut them at its edges (default: drop)",
    )
    parser.add_argument("--layoutnet", metavar="FILE", help="published weights of the network of FID")
    parser.add_argument("--corners", action="store_true", help="these weights see left, top, right, bottom")
    parser.add_argument(
        "--fid-steps",
        type=int,
        default=500,
        metavar="N",
        help="training steps of the network of FID; 0 leaves FID out (default: 500)",
    )
    parser.add_argument("--cache", help="folder in which the training set and the network are kept for the next time")


def scores(options: argparse.Namespace) -> dict[str, Any]:
    """`score` by the options of `add_arguments`."""
    return score(
        options.files,
        options.train,
        options.vocabulary,
        options.max_elements,
        options.portrait,
        options.off_page,
        options.layoutnet,
        options.corners,
        options.fid_steps,
        options.cache,
        progress=True,
    )


def score(
    files: Paths,
    train_files: Paths | None = None,
    vocabulary_name: str | None = None,
    max_elements: int = 25,
    portrait: bool = False,
    off_page: Any = "drop",
    layoutnet: str | None = None,
    corners: bool = False,
    fid_steps: int = 500,
    cache: Path | str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """The metrics of `metrics` for all layouts of files, folders and archives (`files.read_layouts`).

    Args:
        files: what is judged.
        train_files: the training layouts, with which the others are compared.
        vocabulary_name: what the labels mean; by the files themselves by default.
        max_elements: layouts with more are left out; 0 takes any.
        portrait: whether pages that are wider than high are left out.
        off_page: what becomes of elements that leave the page, as `Inspection` has it.
        layoutnet: published weights of the network of FID.
        corners: whether those weights see boxes by their edges.
        fid_steps: training steps of the network otherwise; 0 leaves FID out.
        cache: folder in which the training set and the network are kept; they are not by default.
        progress: whether to show progress bars, on standard error.

    Returns:
        ``vocabulary``, ``layouts`` (number judged), ``left_out`` (pages and files), ``elements_left_out``, ``faults``
        (by kind), and the metrics by name. None where one is not defined.

    Raises:
        FileNotFoundError: if a path is absent.
        SettingsError: if no file is of a readable kind, if nothing can be judged, if the vocabulary that is guessed
            lacks most labels, or a file of the training set is broken.
    """
    if max_elements < 0 or fid_steps < 0:
        raise SettingsError(f"max_elements={max_elements}, fid_steps={fid_steps}; neither may be below 0")
    known = vocabulary(vocabulary_name or guessed_vocabulary(files))
    inspection = Inspection(known, max_elements or None, portrait, off_page)
    with tempfile.TemporaryDirectory() as folder:
        kept = str(cache or folder)
        metrics = _alone(known.name)
        if train_files is not None:
            paths = [str(path) for path in ([train_files] if isinstance(train_files, Path | str) else train_files)]
            train = LayoutFiles(paths, "none", known.name, max_elements or None, kept, "all")
            metrics |= _against(train)
            if fid_steps or layoutnet:
                fid = LayoutFID(train, layoutnet, corners, steps=fid_steps or 1, cache=kept, progress=progress)
                metrics["fid"] = fid
        number = 0
        for layouts in _chunks(_read(files, inspection, progress)):
            number += len(layouts)
            for metric in metrics.values():
                metric.update(padded(layouts), [""] * len(layouts))
        if vocabulary_name is None:
            inspection.refuse_wrong_guess()
        inspection.tell()
        if not number:
            faults = "; ".join(
                f"{count} x {kind}, the first: {inspection.first[kind]}" for kind, count in _faults(inspection)
            )
            raise SettingsError(f"no layout can be judged: {faults or 'the files hold none'}")
        found = {name: _number(metric.compute()) for name, metric in metrics.items()}
    facts = {
        "vocabulary": known.name,
        "layouts": number,
        "left_out": sum(inspection.counts[kind] for kind in OF_PAGES),
        "elements_left_out": sum(inspection.counts[kind] for kind in OF_ELEMENTS),
        "faults": dict(_faults(inspection)),
    }
    return {**facts, "alignment": found["alignment/layoutganpp"], "overlap": found["overlap/layoutganpp"], **found}


def _alone(name: str) -> dict[str, Metric]:
    """Metrics that need no other layouts, by what they are called."""
    return {
        **{f"alignment/{variant}": Alignment(variant) for variant in ALIGNMENTS},
        **{f"overlap/{variant}": Overlap(variant, name) for variant in OVERLAPS},
        "mean_iou": MeanIoU(),
        "elements": Elements(),
        "uniqueness": Uniqueness(),
        "diversity": LayoutDiversity(name),
    }


def _against(train: LayoutFiles) -> dict[str, Metric]:
    """Metrics that compare layouts with others."""
    return {
        "max_iou": MaxIoU(train),
        "class_distance": ClassDistance(train),
        "label_count_distance": LabelCountDistance(train),
        "box_distance": BoxDistance(train),
        "count_distance": CountDistance(train),
        "repeated": Repeated(train),
    }


def _read(files: Paths, inspection: Inspection, progress: bool) -> Iterator[Layout]:
    from tqdm import tqdm

    size = sum(file.stat().st_size for file in source_files(files))
    with tqdm(
        total=size, desc="scoring", unit="B", unit_scale=True, disable=not progress, mininterval=1, delay=1, leave=False
    ) as bar:
        yield from read_layouts(files, inspection, read=bar.update)


def _chunks(layouts: Iterator[Layout]) -> Iterator[list[Layout]]:
    while piece := list(islice(layouts, CHUNK)):
        yield piece


def _faults(inspection: Inspection) -> list[tuple[str, int]]:
    return inspection.counts.most_common()


def _number(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None
