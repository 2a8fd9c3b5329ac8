"""What resumable work stands on: files that appear whole, folders of runs, stages of units, partitioned spills."""

from unirna.runs.partitions import PartitionWriter, read_partition
from unirna.runs.run_folder import RunFolder, changed_file, differing, owned, told
from unirna.runs.stages import Spread, inline, on_ray, run_stage
from unirna.runs.storage import Folder, absolute, new_file, new_folder, read_json, write_json, write_text

__all__ = [
    "Folder",
    "PartitionWriter",
    "RunFolder",
    "Spread",
    "absolute",
    "changed_file",
    "differing",
    "inline",
    "new_file",
    "new_folder",
    "on_ray",
    "owned",
    "read_json",
    "read_partition",
    "run_stage",
    "told",
    "write_json",
    "write_text",
]
