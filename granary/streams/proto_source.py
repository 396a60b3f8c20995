"""The source text of Protobuf schemas, compiled by Google's own compiler, protoc.

The text is from outside. protoc runs in a process of its own that ends after some seconds or megabytes, in a folder
that holds the schema and what the registry says it refers to: an import of anything else is an error, and protoc takes
no absolute name and no `..` (https://protobuf.dev/reference/protobuf/proto3-spec/).
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from granary.streams.registry import RegistryUnavailableError, UnknownSchemaError
from granary.warehouse.errors import missing_package

if TYPE_CHECKING:
    from granary.streams.registry import Schema

NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/){0,20}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}")
MAIN = "_schema.proto"
PLACE = re.compile(r"[^\s:]+\.proto:")
SECONDS, MEGABYTES = 20, 1_024
OURS = "google/protobuf/"
"""What protoc brings itself, and nobody may replace."""

COMPILE = f"""
import resource, sys
for what, most in (("CPU", {SECONDS}), ("AS", {MEGABYTES} << 20), ("FSIZE", 64 << 20)):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + what), (most, most))
    except (OSError, ValueError):
        pass
from importlib.resources import files
from grpc_tools import protoc
sys.exit(protoc.main(["protoc", "-I.", f"-I{{files('grpc_tools') / '_proto'}}", *sys.argv[1:]]))
"""

WELL_KNOWN = {
    "confluent/meta.proto": """
syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
""",
    "confluent/type/decimal.proto": """
syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
""",
    "google/type/date.proto": """
syntax = "proto3";
package google.type;
message Date { int32 year = 1; int32 month = 2; int32 day = 3; }
""",
    "google/type/timeofday.proto": """
syntax = "proto3";
package google.type;
message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }
""",
    "google/type/money.proto": """
syntax = "proto3";
package google.type;
message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }
""",
    "google/type/latlng.proto": """
syntax = "proto3";
package google.type;
message LatLng { double latitude = 1; double longitude = 2; }
""",
}
"""What Confluent's serializers know without a reference, by the name under which it is imported."""


def require() -> None:
    """Check that the compiler is installed.

    Raises:
        GranaryError: it is not.
    """
    if find_spec("grpc_tools") is None or find_spec("google.protobuf") is None:
        raise missing_package("Protobuf", "grpcio-tools", "protobuf")


def compiled(schema: Schema) -> Any:
    """Return a schema's file descriptor, in a pool of its own.

    Raises:
        UnknownSchemaError: protoc refuses it, or it imports what it does not refer to.
        RegistryUnavailableError: protoc does not come to its end, on a machine that is busy.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: PLC0415 - only Protobuf needs it

    found = descriptor_pb2.FileDescriptorSet.FromString(_descriptors(schema))
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in found.file:
            pool.AddSerializedFile(file.SerializeToString())
        return pool.FindFileByName(MAIN)
    except (TypeError, KeyError):
        raise UnknownSchemaError("its types contradict each other") from None


def _descriptors(schema: Schema) -> bytes:
    """Return the schema and all that it imports as a serialized FileDescriptorSet."""
    with TemporaryDirectory(prefix="granary-proto-") as folder:
        texts = {name: text for name, text in schema.references if not name.startswith(OURS)}
        for name, text in (WELL_KNOWN | texts | {MAIN: schema.text}).items():
            if not NAME.fullmatch(name):
                raise UnknownSchemaError("it refers to a schema by a name that no file has")
            path = Path(folder, "in", name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            except (OSError, UnicodeError):
                raise UnknownSchemaError("it refers to schemas by names that exclude each other") from None
        out = Path(folder, "out")
        command = ["--include_imports", f"--descriptor_set_out={out}", MAIN]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", COMPILE, *command],
                cwd=Path(folder, "in"),
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=2 * SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            # Its own limit is of processor time: this machine is busy.
            raise RegistryUnavailableError("protoc does not answer", todo="try again") from None
        if done.returncode != 0 or not out.exists():
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            said = next((line for line in words if PLACE.match(line)), "it gives up")
            raise UnknownSchemaError(f"protoc refuses it: {said.removeprefix(f'{MAIN}:').strip()[:200]}")
        return out.read_bytes()
