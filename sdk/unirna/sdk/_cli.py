"""The command `unirna`: search, embed, predict and fold from a shell. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 2 an argument or input that is not valid, 1 anything else (no service, a failure), 130 interrupted.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import secrets
import string
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from unirna.base import command as run_command
from unirna.base import counted, percent
from unirna.sdk import _collections, _jobs_cli
from unirna.sdk._collections import Collections
from unirna.sdk._connection_options import ConnectionOptions
from unirna.sdk._doctor import Doctor
from unirna.sdk._exceptions import InvalidRequestError, ModelMismatchError, NotFoundError, UniRNAError
from unirna.sdk._export import OF_VECTORS, check_target, exporting
from unirna.sdk._export_format import Content, Rows, Writer
from unirna.sdk._jobs_cli import JobsCommand
from unirna.sdk._models import Estimate, LabelSet, ModelInfo, Prediction
from unirna.sdk._output import Output, check_file, check_folder, described, say, show
from unirna.sdk._records import answer_each
from unirna.sdk._results import HIT_COLUMNS, FoldResult
from unirna.sdk._scripts import SCRIPTS, run_script
from unirna.sdk._sequences import ReadsSequences, read_sequences

UNSHOWN = (
    *("sequence", "found_by", "target_coverage", "alignment_score", "query_start", "query_end", "target_start"),
    *("target_end", "cigar"),
)
"""Columns of hits that a table on a terminal has no room for; tsv and jsonl have them."""
EMBEDDED = 4096
"""Sequences whose vectors are held at once, before they are written."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
SHOWN = 5
"""Records that a message names."""
NAME_LETTERS = frozenset(string.ascii_letters + string.digits + "._-@")


@dataclass(frozen=True)
class Search(ReadsSequences):
    """Find the stored sequences most similar to a query."""

    sequence: tyro.conf.Positional[str]
    """An RNA or DNA sequence; or the identifier of a stored one; or a file (FASTA, FASTQ, GenBank, EMBL, CSV, TSV; plain or
    gzip); or - for standard input."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Number of hits for each sequence."""
    where: str = ""
    """SQL condition on the collection's columns, such as "length < 200"."""
    collection: str = ""
    """Which collection; by default the service's default."""
    hybrid: bool = False
    """Search by shared 8-mers and by vectors, without alignment."""
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also align the hits of queries longer than 2,000 nucleotides, which takes longer."""
    no_verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Search by vectors only. By default, hits of queries of up to 2,000 nucleotides are aligned."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> int:
        """Search and print; 2 where some of several sequences cannot be used, and the others were searched."""
        if self.verify and self.no_verify:
            raise InvalidRequestError("give --verify or --no-verify, not both")
        given = read_sequences(self.sequence, self, identifiers=True)
        queries = given.named
        asked: dict[str, Any] = {
            "k": self.k,
            "where": self.where or None,
            "collection": self.collection or None,
            "hybrid": self.hybrid,
            "verify": True if self.verify else False if self.no_verify else None,
        }
        with self.source.connect() as client:
            if len(queries) == 1:
                results = [client.search(queries[0][1], **asked)]
            else:
                results = list(client.search_many([letters for _, letters in queries], **asked))
        rows: list[dict[str, Any]] = []
        refused = 0
        notes: dict[str, None] = {}
        for (name, _), found in zip(queries, results, strict=True):
            if found.error is not None:
                refused += 1
                say(f"left out: {name}: {found.error}")
            notes |= dict.fromkeys(found.notes)
            rows += [{"query": name, **row} if len(queries) > 1 else row for row in found.to_dicts()]
        self.output.show(rows, UNSHOWN, ["query", *HIT_COLUMNS] if len(queries) > 1 else HIT_COLUMNS)
        said = {name: found for (name, _), found in zip(queries, results, strict=True) if len(found)}
        if len(queries) == 1 or all(found.better_than_chance is None for found in said.values()):
            for verdict in dict.fromkeys(found.verdict for found in said.values() if found.verdict):
                say(verdict)
        elif chance := [name for name, found in said.items() if found.better_than_chance == 0]:
            more = ", …" if len(chance) > SHOWN else ""
            say(
                f"no hit better than chance (p <= .05) for {counted(len(chance), 'query', 'queries')} of {len(said):,}: "
                f"{', '.join(chance[:SHOWN])}{more}"
            )
        for note in notes:
            say(f"note: {note}")
        if not rows and not notes and refused < len(queries):
            say("no sequence passes the filter" if self.where else "the collection is empty")
        return 2 if refused or given.left_out else 0


@dataclass(frozen=True)
class Embed(ReadsSequences):
    """Turn sequences into vectors."""

    sequences: tyro.conf.Positional[str]
    """An RNA or DNA sequence; or a file (FASTA, FASTQ, GenBank, EMBL, CSV, TSV; plain or gzip); or - for standard input."""
    out: Path
    """File to write, by its ending: .npy (float32 [N, H], with the ids in a .csv beside it), .npz (arrays `ids` and
    `vectors`), .parquet, or .h5ad (AnnData; needs unirna[h5ad])."""
    force: bool = False
    """Replace an existing file."""
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> int:
        """Embed and write; 2 where some of several sequences cannot be used, and the others were embedded."""
        check_target(self.out, OF_VECTORS, force=self.force)
        given = read_sequences(self.sequences, self)
        left_out = given.left_out
        with ExitStack() as stack:
            client = stack.enter_context(self.source.connect())
            writer: Writer | None = None
            for first in range(0, len(given.named), EMBEDDED):
                answered = answer_each(given.named[first : first + EMBEDDED], client.embed)
                left_out += len(answered.refused)
                place = 0
                for vectors in answered.parts:
                    if writer is None:
                        content = Content(vectors.shape[1])
                        writer = stack.enter_context(exporting(self.out, content, OF_VECTORS, force=self.force))
                    named = answered.records[place : place + len(vectors)]
                    writer.write(Rows([name for name, _ in named], vectors))
                    place += len(vectors)
            if writer is None:
                raise InvalidRequestError("no sequence is left to embed")
        say(f"{counted(writer.count, 'vector')} of {writer.content.dimension} numbers in {self.out}")
        return 2 if left_out else 0


@dataclass(frozen=True)
class Predict(ReadsSequences):
    """Predict a class, or a value, for each sequence."""

    task: tyro.conf.Positional[str]
    """Name of a predictor."""
    sequences: tyro.conf.Positional[str]
    """An RNA or DNA sequence; or a file (FASTA, FASTQ, GenBank, EMBL, CSV, TSV; plain or gzip); or - for standard input."""
    prior: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Prevalence to compute the probabilities for, instead of that of the training data: a share such as 0.05 for all
    labels, or LABEL=0.05, once for each label or class."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> int:
        """Predict and print; 2 where some of several sequences cannot be used, and the others were answered."""
        given, prior = read_sequences(self.sequences, self), _prior(self.prior)
        with self.source.connect() as client:
            answered = answer_each(given.named, lambda sequences: client.predict(self.task, sequences, top=0, prior=prior))
        named, predictions = answered.records, [p for part in answered.parts for p in part]
        labels = sorted({label for p in predictions if isinstance(p, LabelSet) for label in p.probabilities})
        rows = [
            {"id": name}
            | (
                {
                    "label": p.label,
                    "probability": p.probability,
                    "conformal_p_value": p.conformal_p_value,
                    "out_of_distribution": p.out_of_distribution,
                }
                if isinstance(p, Prediction)
                else {"labels": ",".join(p.labels)} | {f"p({label})": p.probabilities.get(label) for label in labels}
                if isinstance(p, LabelSet)
                else {"value": p.value, "low": p.low, "high": p.high, "unit": p.unit}
                if isinstance(p, Estimate)
                else {"values": ",".join(f"{v:.4g}" for v in p.values), "half_width": p.half_width, "unit": p.unit}
            )
            | dict(p.motifs)
            | {"applicable": p.applicable, "reason": p.reason}
            for (name, _), p in zip(named, predictions, strict=True)
        ]
        self.output.show(rows)
        refused = [f"{name}: {p.reason}" for (name, _), p in zip(named, predictions, strict=True) if not p.applicable]
        if refused:
            say(f"{self.task} does not apply to {len(refused):,} of {len(named):,}:")
            say("\n".join(f"  {line}" for line in refused[:SHOWN]) + ("\n  …" if len(refused) > SHOWN else ""))
        if labels and answered.parts[0].base_rates and not prior:
            rates = ", ".join(f"{label} {percent(share)}" for label, share in answered.parts[0].base_rates.items())
            say(f"probabilities hold for the prevalence of the training data ({rates}); --prior states another")
        unusual = [
            name for (name, _), p in zip(named, predictions, strict=True) if p.applicable and not p.in_training_length_range
        ]
        unlike = [name for (name, _), p in zip(named, predictions, strict=True) if getattr(p, "out_of_distribution", None)]
        for what, names in (
            (f"of other lengths than what {self.task} was made from, so take the answers for guesses", unusual),
            (f"out of distribution: unlike the training data of {self.task}, so do not trust their labels", unlike),
        ):
            if names:
                say(f"{len(names):,} of {len(named):,} {what}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}")
        return 2 if given.left_out or answered.refused else 0


@dataclass(frozen=True)
class Fold(ReadsSequences):
    """Predict secondary structures."""

    sequences: tyro.conf.Positional[str]
    """An RNA or DNA sequence; or a file (FASTA, FASTQ, GenBank, EMBL, CSV, TSV; plain or gzip); or - for standard input."""
    pseudoknots: Annotated[bool, tyro.conf.FlagCreatePairsOff] = True
    """Leave out helices that cross the nested structure."""
    constraint: str = ""
    """For one sequence, a character each: . free, x unpaired, | paired, < paired with a later nucleotide, > with an earlier
    one, ( and ) paired with each other."""
    svg: Path | None = None
    """Folder for a drawing of each, NUMBER_ID.svg."""
    plot: Path | None = None
    """Folder for a plot of the pair probabilities of each, NUMBER_ID.svg."""
    contacts: Path | None = None
    """File for the nucleotides that are close in space, TSV: id, i, j (from 1), probability."""
    format: Literal["auto", "brackets", "dbn", "ct", "bpseq", "tsv", "jsonl"] = "auto"
    """brackets, the default: as RNAfold prints them, with the free energy in kcal/mol; dbn: without it."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Same as --format jsonl."""
    tsv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Same as --format tsv."""
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> int:
        """Fold and print; 2 where some of several sequences cannot be used, and the others were folded."""
        for flag, folder in (("--svg", self.svg), ("--plot", self.plot)):
            check_folder(flag, folder)
        check_file("--contacts", self.contacts)
        given = read_sequences(self.sequences, self)
        if self.constraint and len(given.named) != 1:
            raise InvalidRequestError(f"--constraint is for one sequence, got {len(given.named)}: give them one by one")
        with self.source.connect() as client:
            answered = answer_each(
                given.named,
                lambda sequences: client.fold(
                    sequences,
                    contacts=self.contacts is not None,
                    pseudoknots=self.pseudoknots,
                    constraint=[self.constraint] if self.constraint else None,
                    plot=self.plot is not None,
                ),
            )
        named, found = answered.records, FoldResult([structure for part in answered.parts for structure in part])
        for folder, what in ((self.svg, "drawing"), (self.plot, "plot")):
            if folder is None:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for number, ((name, _), structure) in enumerate(zip(named, found, strict=True), 1):
                safe = re.sub(r"[^\w.-]", "_", name)[:100]
                picture = structure.svg if what == "drawing" else structure.plot
                (folder / f"{number:04d}_{safe}.svg").write_text(picture, encoding="utf-8")
            say(f"{counted(len(named), what)} in {folder}")
        if self.contacts is not None:
            lines = ["id\ti\tj\tprobability\n"]
            for (name, _), structure in zip(named, found, strict=True):
                lines += [f"{name}\t{i + 1}\t{j + 1}\t{p:.4f}\n" for i, j, p in structure.contacts]
            self.contacts.write_text("".join(lines), encoding="utf-8")
            say(f"{counted(len(lines) - 1, 'contact')} in {self.contacts}")
        format = "jsonl" if self.json else "tsv" if self.tsv else self.format
        if format in ("tsv", "jsonl"):
            rows = [{"id": name, **row} for (name, _), row in zip(named, found.to_dicts(), strict=True)]
            show(rows, "tsv" if format == "tsv" else "jsonl")
            return 2 if given.left_out or answered.refused else 0
        for (name, _), structure in zip(named, found, strict=True):
            if format == "ct":
                print(structure.to_ct(name), end="")
            elif format == "bpseq":
                print(structure.to_bpseq(name), end="")
            elif format == "dbn" or structure.free_energy is None:
                print(structure.to_dot_bracket(name), end="")
            else:
                print(f">{name}\n{structure} ({structure.free_energy:.2f})")
        return 2 if given.left_out or answered.refused else 0


@dataclass(frozen=True)
class ScoreVariants(ReadsSequences):
    """Score variants of a sequence with the language model."""

    sequence: tyro.conf.Positional[str]
    """An RNA or DNA sequence; or a file that holds one (FASTA, FASTQ, GenBank, CSV, …); or - for standard input."""
    variants: tyro.conf.Positional[tuple[str, ...]] = ()
    """Variants such as A10G, or G3C+C70G for several substitutions at once; by default all single substitutions."""
    method: Literal["masked", "pseudo-likelihood"] = "masked"
    """pseudo-likelihood compares whole sequences, which takes longer."""
    svg: Path | None = None
    """File for a heat map of all single substitutions."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """Score and print."""
        check_file("--svg", self.svg)
        given = read_sequences(self.sequence, self)
        named = given.named
        if len(named) + given.left_out != 1:
            number = counted(len(named) + given.left_out, "sequence")
            raise InvalidRequestError(f"{number}: expected one, or use jobs/score_variants.py")
        if self.svg is not None and self.variants:
            raise InvalidRequestError("--svg draws all single substitutions: name no variants")
        with self.source.connect() as client:
            found = client.score_variants(named[0][1], self.variants or None, method=self.method)
        if self.svg is not None:
            self.svg.write_text(found.svg, encoding="utf-8")
            say(f"heat map in {self.svg}")
        self.output.show(found.to_dicts())


@dataclass(frozen=True)
class Models:
    """List the encoder and the predictors with their verdicts, or print the card of one."""

    name: tyro.conf.Positional[str] = ""
    """A predictor: shows its verdict, or its card or plot with --card or --plot."""
    card: bool = False
    """Print its card: data, verdict, metrics and limits, as Markdown."""
    plot: Path | None = None
    """File for the plot of predicted against true values, SVG (predictors of values)."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """List them."""
        check_file("--plot", self.plot)
        if not self.name and (self.card or self.plot is not None):
            raise InvalidRequestError("--card and --plot are of one predictor: name it, as in unirna models NAME --card")
        with self.source.connect() as client:
            if self.card:
                print(client.model_card(self.name))
            if self.plot is not None:
                self.plot.write_text(client.model_plot(self.name), encoding="utf-8")
                say(f"plot in {self.plot}")
            if self.card or self.plot is not None:
                return
            listed = client.models()
            chosen = [m for m in listed if m.name == self.name] if self.name else listed
            if not chosen:
                raise InvalidRequestError(f"no model {self.name!r}. There are: {', '.join(m.name for m in listed)}")
            rows = [
                {
                    "name": m.name,
                    "kind": m.kind,
                    "predicts": ", ".join(m.labels[:4]) + (f" and {len(m.labels) - 4} more" if len(m.labels) > 4 else "")
                    or m.unit,
                    "lengths": "–".join(map(str, m.lengths)) if m.lengths else "",
                    "takes": m.requirements.get("text", ""),
                    **_judged(m),
                    "fingerprint": m.fingerprint,
                }
                for m in chosen
            ]
        self.output.show(rows)


def _judged(model: ModelInfo) -> dict[str, str]:
    """The primary metric with its interval, and the verdict; empty of an encoder."""
    found, verdict = model.primary_metric, model.verdict
    shown = ""
    if found and found["value"] is not None:
        shown = f"{found['metric']} {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
    return {"measured": shown, "level": str(verdict.get("level", "")), "verdict": str(verdict.get("text", ""))}


@dataclass(frozen=True)
class NewKey:
    """Make a key for a service: the line for its --keys-file on stdout, the key itself on stderr, once."""

    name: tyro.conf.Positional[str]
    """Owner of the key. A name may have several keys, so that a new one can be handed out before the old one is removed."""
    scope: Literal["read", "write", "admin"] = "read"
    """Scope: what the key allows."""

    def run(self) -> None:
        """Make it."""
        if not self.name or set(self.name) - NAME_LETTERS:
            raise InvalidRequestError(f"name {self.name!r}: expected only letters, digits, and . _ - @")
        key = secrets.token_urlsafe(32)
        say(f"key of {self.name} ({self.scope}); it is shown this once:\n{key}")
        print(self.name, self.scope, hashlib.sha256(key.encode()).hexdigest())


@dataclass(frozen=True)
class Script:
    """The arguments of a job script are listed by its own help: `unirna serve --help`, `unirna screen --help`."""

    arguments: tyro.conf.Positional[tuple[str, ...]] = ()

    def run(self) -> None:
        """Never: `main` hands the arguments to the script."""


Command = (
    Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Embed, tyro.conf.subcommand("embed")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Fold, tyro.conf.subcommand("fold")]
    | Annotated[ScoreVariants, tyro.conf.subcommand("score-variants")]
    | Annotated[Collections, tyro.conf.subcommand("collections")]
    | Annotated[JobsCommand, tyro.conf.subcommand("jobs")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[NewKey, tyro.conf.subcommand("key")]
    | Annotated[Script, tyro.conf.subcommand("serve", description="Serve a store over HTTP (jobs/serve.py).")]
    | Annotated[Script, tyro.conf.subcommand("screen", description="Rank a library (jobs/screen.py).")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code.

    Args:
        arguments: by default those of the process.
    """
    if arguments is not None:
        return _run(arguments)
    code = run_command(lambda: _run(sys.argv[1:]))
    if code == INTERRUPTED and sys.argv[1] not in SCRIPTS:
        os._exit(code)  # at its end the interpreter would wait for the threads that still wait for answers
    return code


def _run(arguments: Sequence[str]) -> int:
    given = list(arguments)
    if given[:1] and given[0] in SCRIPTS:
        return run_script(given[0], given[1:])
    actions = {"collections": _collections.ACTIONS, "jobs": _jobs_cli.ACTIONS}.get(given[0], ()) if given else ()
    if actions and not set(given) & {*actions, "-h", "--help"}:
        given.insert(1, "list")
    chosen: Any = tyro.cli(
        Command,
        prog="unirna",
        description="Search, embed, classify and fold RNA sequences.",
        args=given,
    )
    try:
        code = chosen.run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise  # `command` ends it
    except (InvalidRequestError, NotFoundError, ModelMismatchError) as error:
        say(f"error: {error}")
        return 2
    except (UniRNAError, ImportError) as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {described(error)}")
        return 2
    except ValueError as error:
        say(f"error: {error}")
        return 2
    return int(code or 0)


def _prior(given: Sequence[str]) -> float | dict[str, float] | None:
    """The prevalence of the flags: one share, or a share for each name."""

    def share(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not 0 < found < 1:
            raise InvalidRequestError(f"--prior {text}: expected a share between 0 and 1 such as 0.05, or LABEL=0.05")
        return found

    if len(given) == 1 and "=" not in given[0]:
        return share(given[0])
    parts = [text.rpartition("=") for text in given]
    if any(not equals for _, equals, _ in parts):
        raise InvalidRequestError("--prior: give one share for all labels, or LABEL=SHARE for each")
    return {name: share(value) for name, _, value in parts} or None


if __name__ == "__main__":
    sys.exit(main())
