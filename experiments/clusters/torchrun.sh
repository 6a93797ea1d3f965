#!/usr/bin/env bash
# A run on several machines without a scheduler: the same line on each of them, with the address of one.
#   NODES=2 GPUS=8 HEAD=10.0.0.1:29500 experiments/clusters/torchrun.sh fit \
#     --config experiments/text_to_image/sd2_pgraft.yaml --config experiments/clusters/two_nodes.yaml
# NODES and GPUS must be those of the layer: trainer.num_nodes and trainer.devices. The folder of runs is shared by all. When a
# machine fails, the others end too; the same line goes on: the pool where it stopped, training from its last checkpoint.
set -euo pipefail

: "${HEAD:?the address of one of the machines, as HOST:PORT}"
resume=()
if [ "$1" = fit ]; then
  resume=(--ckpt_path=last) # a run without a checkpoint simply begins
fi
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="${NODES:-2}" --nproc-per-node="${GPUS:-8}" --max-restarts=0 \
  --rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id="${RUN:-graft}" -m graft_lightning "$@" "${resume[@]}"
