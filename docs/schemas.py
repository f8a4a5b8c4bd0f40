"""Write the JSON schemas of every command's `--json`, docs/schemas/, from the records' types.

$ python docs/schemas.py

A test fails when a file differs from what this script writes.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from mnistcli.version import SCHEMA_VERSION
from mnistcli.views.bench import BenchRecord
from mnistcli.views.doctor import DoctorRecord
from mnistcli.views.download import DownloadRecord
from mnistcli.views.eval import EvaluationRecord, EvaluationsRecord
from mnistcli.views.export import ExportRecord
from mnistcli.views.multirun import MultiRunRecord
from mnistcli.views.plot import PlotRecord
from mnistcli.views.predict import PictureRecord, ScoreRecord, SubmissionRecord
from mnistcli.views.runs import RunsRecord, ShownRunRecord
from mnistcli.views.summary import NetworkRecord, RecipesRecord
from mnistcli.views.train import SettingsRecord, TrainedRecord

FOLDER = Path(__file__).with_name("schemas")
# What each command prints: one record, or with `predict` one per line.
RECORDS: dict[str, Any] = {
    "bench": BenchRecord,
    "doctor": DoctorRecord,
    "download": DownloadRecord,
    "eval": EvaluationRecord | EvaluationsRecord,
    "export": ExportRecord,
    "plot": PlotRecord,
    "predict": PictureRecord | ScoreRecord | SubmissionRecord,
    "runs": RunsRecord | ShownRunRecord,
    "summary": NetworkRecord | RecipesRecord,
    "train": TrainedRecord | MultiRunRecord | SettingsRecord,
}


class _RecordSchema(GenerateJsonSchema):
    """Every field is printed, also one that has a default."""

    def field_is_required(self, *_: Any, **__: Any) -> bool:
        return True


def schema(command: str) -> dict[str, Any]:
    """The schema of a record that `mnist COMMAND --json` prints (JSON Schema, draft 2020-12)."""
    generated = TypeAdapter(RECORDS[command]).json_schema(
        mode="serialization", schema_generator=_RecordSchema
    )
    version = {"const": SCHEMA_VERSION, "type": "integer"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": f"mnist {command} --json",
        "type": "object",
        "properties": {"schema_version": version, **generated.get("properties", {})},
        "required": ["schema_version", *generated.get("required", [])],
    }


def schema_text(command: str) -> str:
    """The content of a schema's file."""
    return json.dumps(schema(command), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in RECORDS:
        (FOLDER / f"{name}.json").write_text(schema_text(name), encoding="utf-8")
