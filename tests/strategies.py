"""Strategies for tests: two forked processes on the CPU."""

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict


class _ForkAndGather(_MultiProcessingLauncher):
    """Lightning's fork launcher, but whole weights go back to the parent: sharded ones cannot be pickled."""

    def _collect_rank_zero_results(self, trainer: Any, results: Any) -> Any:
        module = trainer.lightning_module
        whole = get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        module.state_dict = lambda *arguments, **keywords: whole
        try:
            return super()._collect_rank_zero_results(trainer, results)
        finally:
            del module.state_dict


class ForkedModelParallel(ModelParallelStrategy):
    """FSDP2 over two forked processes."""

    def __init__(self) -> None:
        super().__init__(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def _configure_launcher(self) -> None:
        self._launcher = _ForkAndGather(self, start_method="fork")
