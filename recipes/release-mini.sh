#!/usr/bin/env bash
# The release model: corpus, pre-training in four parts, and weights/unirna-mini with evaluation and card. Stopped at any
# moment, and run again, it goes on where it was.
#
#     recipes/release-mini.sh [OUT] [SHARED]                 # by default runs/release-mini and ../shared
#     FIRST=4 SECOND=4 LAST=10 recipes/release-mini.sh       # a rehearsal; steps of 16,384 tokens, on two cores some 3 s each
# The rehearsal took 20 minutes there without the corpus, nearly all of it the evaluation.
# A rehearsal overwrites weights/unirna-mini too: git checkout weights.
#
# The first two parts end on the plateau of the learning rate, the last decays. Masked and contrastive training together start
# it, masked training alone brings the held-out loss down, both together end it. What is shipped is the mean of that and of
# the first part decayed on its own: nearer to the first in search, to the second in loss, and better than either
# (docs/log.md). The corpus is built in OUT-corpus unless CORPUS names a finished one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/release-mini}
shared=${2:-../shared}
python=${PYTHON:-.venv/bin/python}
corpus=${CORPUS:-$out-corpus}

[ -e "$corpus/manifest.json" ] || PYTHON=$python recipes/release-corpus.sh "$corpus" "$shared"
first=${FIRST:-1120} second=${SECOND:-1183} last=${LAST:-420}
checkpoint() { printf '%s/checkpoints/step-%08d' "$1" "$2"; }
pretrain() {
  "$python" jobs/pretrain.py --data "$corpus" --workers 0 --size mini --optimizer muon --context 512 \
    --batch-tokens 16384 --micro-tokens 16384 --checkpoint-every 50 --valid-every 100 "$@"
}
pretrain --out "$out-first" --objective both --learning-rate 1e-3 --warmup-steps 35 --steps $((first * 5 / 4)) \
  --whitening-sequences 0
pretrain --out "$out-second" --objective masked --learning-rate 3e-3 --warmup-steps 35 --steps $((second + 1)) \
  --decay-share 0 --whitening-sequences 0 --init "$(checkpoint "$out-first" "$first")"
pretrain --out "$out" --objective both --learning-rate 2e-3 --warmup-steps 15 --steps "$last" --decay-share 0.7 \
  --init "$(checkpoint "$out-second" "$second")"
"$python" recipes/ship_release.py --run "$out" --average "$out-first" --before "$out-first:$first" "$out-second:$second" \
  --corpus "$corpus" --shared "$shared"
