#!/usr/bin/env bash
# Pre-train one release model on one GPU within a time, without Ray or a network: train, score, and leave it in pieces.
#
#     recipes/release-gpu.sh SIZE SECONDS CORPUS OUT [arguments of jobs/pretrain.py …]
#     recipes/release-gpu.sh mini 600 runs/release-corpus runs/gpu
#     TOKENS=1024 recipes/release-gpu.sh nano 20 runs/release-corpus /tmp/rehearsal     # a rehearsal on a CPU
#
# A short run measures the speed, from which the number of steps follows, decay included. Stopped, and run again with the
# same arguments, it goes on from the last checkpoint. OUT/SIZE gets the run; OUT/SIZE.tar.* the model in half precision with
# its metrics, in pieces of 15 MB: cat OUT/SIZE.tar.* | tar x
set -euo pipefail
cd "$(dirname "$0")/.."
size=$1 seconds=$2 corpus=$3 out=$4
shift 4
python=${PYTHON:-.venv/bin/python} tokens=${TOKENS:-131072}
pretrain() {
  "$python" jobs/pretrain.py --data "$corpus" --workers 0 --size "$size" --objective both --optimizer muon --context 512 \
    --group-share 0 --mutation-rate 0.5 --batch-tokens "$tokens" --micro-tokens "$tokens" \
    --learning-rate "${RATE:-3e-3}" --warmup-steps 50 --decay-share 0.4 "$@"
}
mkdir -p "$out"
if [ ! -e "$out/$size.steps" ]; then
  pretrain --out "$out/$size-speed" --steps 40 --log-every 10 --valid-every 1000 --checkpoint-every 1000 \
    --whitening-sequences 0 "$@" > "$out/$size-speed.log"
  "$python" - "$out/$size-speed/metrics.jsonl" "$seconds" "$tokens" > "$out/$size.steps.tmp" <<'PYTHON'
import json, sys
speeds = [json.loads(line)["tokens_per_second"] for line in open(sys.argv[1])]
print(max(100, int(float(sys.argv[2]) * max(speeds[1:-1]) / float(sys.argv[3]))))
PYTHON
  mv "$out/$size.steps.tmp" "$out/$size.steps"
fi
mkdir -p "$out/$size"
[ -e "$out/$size/markov.json" ] || cp "$out/$size-speed/markov.json" "$out/$size/"
pretrain --out "$out/$size" --steps "$(cat "$out/$size.steps")" --log-every 50 --valid-every 200 --checkpoint-every 250 \
  "$@" > "$out/$size.log"
"$python" - "$out/$size" <<'PYTHON'
import sys
from unirna import model
model.save_checkpoint(model.load(sys.argv[1] + "/model", device="cpu").encoder, sys.argv[1] + "/half", half=True)
PYTHON
tar cf - -C "$out" "$size/half" "$size/metrics.jsonl" "$size/config.json" "$size/markov.json" "$size/model/training.json" \
  "$size/summary.json" | split -b 15M - "$out/$size.tar."
