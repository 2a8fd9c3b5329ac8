#!/usr/bin/env bash
# The release model: corpus, pre-training, and weights/unirna-mini with evaluation and card. Stopped at any moment, and run
# again, it goes on where it was; with more STEPS a finished run is extended from the beginning of its decay.
#
#     recipes/release-mini.sh [OUT] [SHARED]            # by default runs/release-mini and ../shared
#     STEPS=4000 recipes/release-mini.sh                # 16,384 tokens a step; on two cores some 3 s each
#
# The corpus is built in OUT-corpus unless CORPUS names a finished one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/release-mini}
shared=${2:-../shared}
python=${PYTHON:-.venv/bin/python}
corpus=${CORPUS:-$out-corpus}

[ -e "$corpus/manifest.json" ] || PYTHON=$python recipes/release-corpus.sh "$corpus" "$shared"
"$python" jobs/pretrain.py --data "$corpus" --out "$out" --workers 0 \
  --size mini --objective both --optimizer muon --context 512 --learning-rate 1e-3 --warmup-steps 35 \
  --steps "${STEPS:-8000}" --batch-tokens 16384 --micro-tokens 16384 --decay-share 0.2 \
  --checkpoint-every 50 --valid-every 100
"$python" recipes/ship_release.py --run "$out" --corpus "$corpus" --shared "$shared"
