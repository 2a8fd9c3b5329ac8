"""What resumable work stands on: files that appear whole, folders of runs, stages of units, partitioned spills."""

from unirna.runs.partitions import PartitionWriter, read_partition
from unirna.runs.storage import Folder, absolute, new_file, new_folder, read_json, write_json, write_text

__all__ = [
    "Folder",
    "PartitionWriter",
    "absolute",
    "new_file",
    "new_folder",
    "read_json",
    "read_partition",
    "write_json",
    "write_text",
]
