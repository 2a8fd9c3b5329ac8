#!/usr/bin/env bash
# The corpus of the release model: all training parts of the shared collections, without anything that stands in, or is
# near-identical to a member of, a test set. Killed, and run again, it goes on where it was.
#
#     recipes/release-corpus.sh [OUT] [SHARED]              # by default runs/release-corpus and ../shared
#     RRNA=full recipes/release-corpus.sh runs/full-corpus  # with all 181,161 rRNAs
#
# Weights: rRNAs and coding sequences are long, so they are drawn less often; families more often. The m6A and CLIP windows
# are not trained on: they came without a licence, and are genome windows rather than RNAs. Their test parts are kept out.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/release-corpus}
shared=${2:-../shared}
python=${PYTHON:-.venv/bin/python}
inputs=$out-inputs

if [ ! -e "$inputs/done" ]; then
  "$python" recipes/prepare_release.py --shared "$shared" --out "$inputs" --rrna "${RRNA:-named}" >&2
  touch "$inputs/done"
fi
excluded=()
for set in "$inputs"/exclude/*.parquet; do
  excluded+=(--exclude "$set")
done
i=$inputs/inputs
"$python" jobs/corpus.py \
  "rfam=$i/rfam.parquet@2" "nrc=$i/nrc.parquet" "trna=$i/trna.parquet" "bprna=$i/bprna.parquet" "pdb=$i/pdb.parquet@0.5" \
  "rrna=$i/rrna.parquet@0.3" "cds=$i/cds.parquet@0.3" "utr5=$i/utr5.parquet@0.5" "utr5_windows=$i/utr5_windows.parquet@0.5" \
  "mrl=$i/mrl.parquet@0.5" "riboswitch_designs=$i/riboswitch_designs.parquet" \
  --group-column rfam_acc \
  --drop in_bprna_ts0 --drop in_archiveII --drop in_nrc_test \
  --drop-groups "$shared/bench/retrieval_dev/test_families.tsv" \
  "${excluded[@]}" \
  --out "$out"
