"""The contract as files: fresh descriptors, in the wheel, and held against the last release."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hatchling.builders.wheel import WheelBuilder

from scripts import gate
from tests.integration.proto.test_grpcurl import buf_folder

PROTOS = sorted((gate.ROOT / "proto").rglob("*.proto"))


def test_the_descriptor_set_is_fresh(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.binpb"
    options = ["-I", str(gate.ROOT / "proto"), "--include_imports", f"--descriptor_set_out={fresh}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, *map(str, PROTOS)]
    subprocess.run(command, cwd=gate.ROOT, check=True)
    kept = (gate.ROOT / "proto" / "hyrex.binpb").read_bytes()
    assert kept == fresh.read_bytes(), "run scripts/proto-descriptors"


def test_java_gets_no_two_classes_of_one_name() -> None:
    """protoc names a class after each file, and a message of another file may have that name."""
    kept = FileDescriptorSet.FromString((gate.ROOT / "proto" / "hyrex.binpb").read_bytes())
    classes: list[str] = []
    for file in (file for file in kept.file if file.package == "hyrex.v1"):
        named = [each.name for each in file.message_type]
        named += [*(each.name for each in file.enum_type), *(each.name for each in file.service)]
        stem = Path(file.name).stem.title().replace("_", "")
        outer = file.options.java_outer_classname or (f"{stem}OuterClass" if stem in named else stem)
        classes += [outer, *named]
    assert sorted(classes) == sorted(set(classes))


def test_the_wheel_ships_the_protos_and_their_descriptors(tmp_path: Path) -> None:
    wheel = next(iter(WheelBuilder(str(gate.ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        descriptors = FileDescriptorSet.FromString(archive.read("hyrex/proto/hyrex.binpb"))
    assert {f"hyrex/proto/hyrex/v1/{path.name}" for path in PROTOS} <= names
    services = {service.name for file in descriptors.file for service in file.service}
    assert services == {
        "TaskService", "WorkerService", "QueueService", "AdminService", "ScheduleService", "WorkflowService",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("string queue = 3;", "string queue = 33;"),
        ("int32 max_retries = 8;", "int64 max_retries = 8;"),
        ("bytes payload = 4;", ""),
        ("TASK_STATUS_LOST = 9;", "TASK_STATUS_GONE = 9;"),
    ],
    ids=["renumbered", "retyped", "removed without reserved", "renamed enum value"],
)
def test_a_change_that_breaks_released_clients_is_refused(tmp_path: Path, before: str, after: str) -> None:
    shutil.copytree(gate.ROOT / "proto", tmp_path / "proto")
    shutil.copy(gate.ROOT / "buf.yaml", tmp_path)
    changed = tmp_path / "proto" / "hyrex" / "v1" / "task.proto"
    text = changed.read_text()
    assert before in text
    changed.write_text(text.replace(before, after, 1))
    command = [str(buf_folder() / "buf"), "breaking", str(tmp_path), "--against", str(gate.RELEASED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "task.proto" in done.stdout
