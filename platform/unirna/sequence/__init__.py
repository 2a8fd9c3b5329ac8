"""RNA sequences: reading them from files, bringing their letters to one form, and secondary structures.

Knows Arrow and nothing of torch or Ray. Lengths are in nucleotides; positions in error messages count from 1.
"""

from unirna.sequence.content import changed_path, check_unchanged, contents_of, stamps_of
from unirna.sequence.normalise import REASONS, REJECT_SCHEMA, SequenceError, clean_table, normalise, sequence_sha
from unirna.sequence.read import InputError, Piece, Record, plan_pieces, read, read_tables
from unirna.sequence.shuffle import shuffle_dinucleotides
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

__all__ = [
    "REASONS",
    "REJECT_SCHEMA",
    "InputError",
    "Piece",
    "Record",
    "SequenceError",
    "Structure",
    "StructureError",
    "changed_path",
    "check_unchanged",
    "clean_table",
    "contents_of",
    "normalise",
    "parse_bpseq",
    "parse_bpseq_all",
    "parse_ct",
    "parse_ct_all",
    "parse_dot_bracket",
    "plan_pieces",
    "read",
    "read_tables",
    "sequence_sha",
    "shuffle_dinucleotides",
    "stamps_of",
    "write_bpseq",
    "write_ct",
    "write_dot_bracket",
]
