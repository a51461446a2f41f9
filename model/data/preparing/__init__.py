"""Preparing a data set: clips in, shards out.

`prepare_clips` runs an analysis over every clip, in parallel and resumably; `read_shards` reads what it wrote;
`write_report` shows it. `folder.py` says what lies where.
"""

from __future__ import annotations

from model.data.preparing.histogram import HistogramSpec
from model.data.preparing.records import Manifest, read_manifest
from model.data.preparing.report import write_report
from model.data.preparing.run import EngineName, OnProgress, prepare_clips
from model.data.preparing.shards import read_shards

__all__ = [
    "EngineName",
    "HistogramSpec",
    "Manifest",
    "OnProgress",
    "prepare_clips",
    "read_manifest",
    "read_shards",
    "write_report",
]
