#!/usr/bin/env bash
# A run on two nodes of a SLURM cluster, put into the queue again when its time is up or a node fails.
#   sbatch experiments/clusters/slurm.sh fit --config experiments/text_to_image/sd2_pgraft.yaml \
#     --config experiments/clusters/two_nodes.yaml
# Nodes and GPUs here must be those of the layer: trainer.num_nodes and trainer.devices.
#SBATCH --job-name=graft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.txt
set -euo pipefail

# At SIGUSR1, three minutes before the end, Lightning writes hpc_ckpt_N.ckpt here and has the job queued again; it begins
# from there. The folder is the job's own: Lightning would take up whatever hpc_ckpt lies in it.
root="runs/slurm-$SLURM_JOB_ID"
resume=()
if [ "$1" = fit ] && ! compgen -G "$root/hpc_ckpt_*.ckpt" >/dev/null; then
  resume=(--ckpt_path=last) # after a node failed; a run without a checkpoint simply begins
fi
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m graft_lightning "$@" "--trainer.default_root_dir=$root" "${resume[@]}"
