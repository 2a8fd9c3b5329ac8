#!/usr/bin/env bash
# What is asked of a GPU first, on a machine that has neither Ray nor a network: pack here, copy, run there.
#
#     recipes/gpu.sh pack CORPUS SHARED PACK             # corpus, benchmarks and sequences, some 18 MB
#     recipes/gpu.sh check PACK OUT                      # tests/test_cuda.py; training and embedding speed beside padded models
#     recipes/gpu.sh compare PACK OUT STEPS [NAME=ARGUMENTS …]
#     recipes/gpu.sh compare runs/pack runs/arms 500 base= strong="--mutation-rate 0.75" families="--group-share 1"
#
# Run `check` first: its tests train ten steps to the end. `compare` trains mini by the release recipe with each of these
# arguments of jobs/pretrain.py, two at a time, and prints what its vectors find of `retrieval_dev`; OUT/NAME.tar is the
# model in half precision with its metrics. An arm of 500 steps took 186 s on an H200 beside another, 70 of them steps.
# Then recipes/release-gpu.sh trains the best of them for long. PYTHON names the interpreter, SIZE and TOKENS are for
# rehearsals on a CPU: SIZE=nano TOKENS=4096 recipes/gpu.sh compare runs/pack runs/arms 3 base=
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
what=$1
shift

pack() {
  local corpus=$1 shared=$2 out=$3
  mkdir -p "$out/shared/bench/splits" "$out/shared/data/nrc_13class"
  tar czf "$out/corpus.tar.gz" --exclude='*.ids.parquet' --exclude=summary.html -C "$corpus" .
  cp "$shared/data/rfam_seed/rfam_seed.parquet" "$shared/bench/embed_sample_2000.fasta" "$out"
  cp -r "$shared/bench/retrieval_dev" "$shared/bench/score_retrieval.py" "$shared/bench/common.py" "$out/shared/bench"
  cp "$shared/bench/splits/mrl_m1psu2_20k.parquet" "$out/shared/bench/splits"
  cp "$shared/data/nrc_13class/data.parquet" "$out/shared/data/nrc_13class"
  chmod -R u+w "$out"
}

unpack() { # PACK OUT
  mkdir -p "$2"
  [ ! -e "$2/corpus" ] || return 0
  rm -rf "$2/corpus.new" && mkdir "$2/corpus.new"
  tar xzf "$1/corpus.tar.gz" -C "$2/corpus.new"
  mv "$2/corpus.new" "$2/corpus"
}

check() {
  local pack=$1 out=$2 size failed=0
  unpack "$pack" "$out"
  UNIRNA_TEST_CORPUS=$(realpath "$out/corpus") "$python" -m pytest -q -p no:cacheprovider tests/test_cuda.py 2>&1 |
    tee "$out/tests.log" || failed=1 # speed is measured all the same
  local data=(--data "$pack/rfam_seed.parquet" --id-column seq_id --limit 20000 --threads 8 --seconds 3)
  "$python" benchmarks/train.py "${data[@]}" --size mini L8 --micro-tokens 131072 --padded-batch 128 --out "$out/train.json"
  "$python" benchmarks/train.py "${data[@]}" --size mini L8 L12 L16 --micro-tokens 65536 --no-padded --compile --profile \
    --out "$out/train-compiled.json"
  for size in mini L8; do
    "$python" benchmarks/embed.py --fasta "$pack/embed_sample_2000.fasta" --size $size --no-job --threads 8 \
      --out "$out/embed-$size.json"
  done
  return $failed
}

arm() { # PACK OUT STEPS NAME [ARGUMENTS …]
  local pack=$1 run=$2/$4 out=$2 steps=$3 name=$4 tokens=${TOKENS:-131072} began=$SECONDS
  shift 4
  "$python" jobs/pretrain.py --data "$out/corpus" --workers 0 --size "${SIZE:-mini}" --objective both --optimizer muon \
    --context 512 --group-share 0 --mutation-rate 0.5 --batch-tokens "$tokens" --micro-tokens "$tokens" \
    --learning-rate 3e-3 --warmup-steps 50 --decay-share 0.4 --log-every 50 --valid-every 250 --checkpoint-every 5000 \
    --out "$run" --steps "$steps" "$@" > "$run.log" 2>&1
  local trained=$((SECONDS - began))
  "$python" - "$run" <<'PYTHON'
import sys
from unirna import model
model.save_checkpoint(model.load(sys.argv[1] + "/model", device="cpu").encoder, sys.argv[1] + "/half", half=True)
PYTHON
  local kept=(half metrics.jsonl config.json summary.json model/training.json)
  tar cf "$out/$name.tar" -C "$run" "${kept[@]}" # before it is scored: time may be up
  "$python" recipes/evaluate_release.py --model "$run/model" --shared "$pack/shared" --no-probes --no-kmers \
    --out "$run/evaluation.json" > "$run.evaluation.log" 2>&1
  "$python" - "$run" "$trained" $((SECONDS - began)) <<'PYTHON'
import json, sys
run, trained, all_told = sys.argv[1:]
last = [json.loads(line) for line in open(run + "/metrics.jsonl")][-1]
found = json.load(open(run + "/evaluation.json"))["retrieval"]["vectors"]
loss, rate = last["valid_loss"], last["tokens_per_second"]
print(run.rpartition("/")[2], f"held-out loss {loss:.4f}, {rate:,.0f} tokens/s, trained in {trained} s of {all_told}", found)
PYTHON
  tar cf "$out/$name.tar" -C "$run" "${kept[@]}" evaluation.json
}

compare() {
  local pack=$1 out=$2 steps=$3 named failed=0
  shift 3
  for named in "$@"; do
    [[ $named == *=* ]] || { echo "$named: wanted NAME=ARGUMENTS, such as base=" >&2 && exit 2; }
  done
  unpack "$pack" "$out"
  while [ $# -gt 0 ]; do
    local started=()
    for named in "${@:1:2}"; do # two at a time
      # shellcheck disable=SC2086  # the arguments are several words
      arm "$pack" "$out" "$steps" "${named%%=*}" ${named#*=} &
      started+=("$!=${named%%=*}")
    done
    for named in "${started[@]}"; do
      wait "${named%%=*}" || { failed=1 && echo "${named#*=} failed:" && tail -n 3 "$out/${named#*=}"*.log; }
    done
    shift $(($# > 1 ? 2 : 1))
  done
  return $failed
}

case $what in
  pack | check | compare) "$what" "$@" ;;
  *) echo "no $what: wanted pack, check or compare" >&2 && exit 2 ;;
esac
