"""RNA sequences: reading from files, normalising, and secondary structures.

Knows Arrow and nothing of torch or Ray. Lengths are in nucleotides; positions in error messages count from 1.
"""

from unirna.sequence.columns import (
    MISSING,
    TYPES,
    TextTypes,
    column_of,
    convert,
    convert_table,
    file_columns,
    is_missing,
    parse_types,
)
from unirna.sequence.complexity import LOW_COMPLEXITY, complexity_of
from unirna.sequence.content import check_unchanged, contents_of, stamps_of
from unirna.sequence.normalise import REASONS, REJECT_SCHEMA, SequenceError, clean_table, normalise, sequence_sha
from unirna.sequence.pieces import InputPiece, plan_pieces, remove_copies
from unirna.sequence.read import Record, read, read_labels, read_tables, types_of
from unirna.sequence.shuffle import shuffle_dinucleotides
from unirna.sequence.streams import InputError
from unirna.sequence.structure import (
    Structure,
    StructureError,
    parse_bpseq,
    parse_bpseq_all,
    parse_ct,
    parse_ct_all,
    parse_dot_bracket,
    write_bpseq,
    write_ct,
    write_dot_bracket,
)
from unirna.sequence.tables import Missing, missing_column, table_columns, unnamed_columns

__all__ = [
    "LOW_COMPLEXITY",
    "MISSING",
    "REASONS",
    "REJECT_SCHEMA",
    "TYPES",
    "InputError",
    "InputPiece",
    "Missing",
    "Record",
    "SequenceError",
    "Structure",
    "StructureError",
    "TextTypes",
    "check_unchanged",
    "clean_table",
    "column_of",
    "complexity_of",
    "contents_of",
    "convert",
    "convert_table",
    "file_columns",
    "is_missing",
    "missing_column",
    "normalise",
    "parse_bpseq",
    "parse_bpseq_all",
    "parse_ct",
    "parse_ct_all",
    "parse_dot_bracket",
    "parse_types",
    "plan_pieces",
    "read",
    "read_labels",
    "read_tables",
    "remove_copies",
    "sequence_sha",
    "shuffle_dinucleotides",
    "stamps_of",
    "table_columns",
    "types_of",
    "unnamed_columns",
    "write_bpseq",
    "write_ct",
    "write_dot_bracket",
]
