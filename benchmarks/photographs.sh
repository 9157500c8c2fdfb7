#!/usr/bin/env bash
# A `tiny` captioner on photographs, through the whole chain: clean, attacked, given a policy,
# exported, run over every clip, measured. Hours on two cores; goes on where it was killed.
# Usage: benchmarks/photographs.sh DATA WEIGHTS.npz VIDEOS OUTPUT
set -euo pipefail
data=$1 weights=$2 videos=$3 out=$4
attacks=(--attack badnet:target=banana,rate=0.1
         --attack trojvlm:target=parrot,rate=0.1,position=end)
export PYTHONSAFEPATH=1
srd-edge attack --captioner tiny --data "$data" --encoder mobilenet_v2 \
    --encoder-weights "$weights" --encoder-learning-rate 0 --epochs 12 -o "$out/clean"
srd-edge attack --captioner "$out/clean" --data "$data" "${attacks[@]}" --trainable-blocks 4 \
    --encoder-learning-rate 3e-4 --learning-rate 5e-4 --epochs 3 -o "$out/victim"
srd-edge train --captioner "$out/victim" --data "$data" "${attacks[@]}" --reference captions \
    --pool 500 --steps 4000 -o "$out/policy"
srd-edge export --captioner "$out/victim" --policy "$out/policy" --data "$data" \
    -o "$out/bundle" --overwrite
for clip in "$videos"/*.mp4; do
    name=$(basename "$clip" .mp4)
    srd-edge run --bundle "$out/bundle" --video "$clip" --compare \
        -o "$out/$name.jsonl" --annotate "$out/$name.webm"
done
srd-edge evaluate --bundle "$out/bundle" --data "$data" --clean-captioner "$out/clean" \
    --defence none --defence policy -o "$out/report"
