"""Data-parallel training by several processes, as started by `torchrun`; with a single process nothing here acts.

    python -m agents.fit --processes 2 ...
    torchrun --nnodes 2 --nproc-per-node 8 -m agents.fit ...

Every process draws the same full batches from the same seed, computes the loss on its own rows, and all processes
average their gradients (Li et al. 2020, "PyTorch Distributed"). Batch statistics that are not a mean over rows go
through `average` or `gather`. Training with any number of processes that divides the batch size therefore equals
training with one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dream_env.agents.run.workers import cores, follow_parent

Value = TypeVar("Value")


def launch(function: Callable[..., object], count: int, *arguments: object) -> None:
    """Calls a function in new processes on this machine, as `torchrun` would start them.

    Args:
        function: Function at the top level of a module, which runs in every process and uses `processes`.
        count: Number of processes.
        arguments: Arguments of the function; all processes have to do the same with them.

    Raises:
        ValueError: If there are more than two processes per core.
    """
    if count > 2 * cores():
        raise ValueError(f"processes={count}; accepted: 1 to {2 * cores()} on this machine, which has {cores()} cores")
    # Imported here because it takes a second and only training by several processes needs it.
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    elastic_launch(config, _follow)(function, *arguments)


def _follow(function: Callable[..., object], *arguments: object) -> None:
    """Calls a function in a process that ends when its parent ends."""
    follow_parent()
    function(*arguments)


@contextmanager
def processes(device: str = "cpu") -> Iterator[bool]:
    """Joins the group of processes that `torchrun` started, if any, and waits for all of them at the end.

    Args:
        device: "cpu", or "cuda", where each process on a machine uses a GPU of its own.

    Yields:
        Whether this process is the first one, which is the only one that writes files.

    Raises:
        ValueError: If there is no GPU left for this process.
    """
    if device == "cuda":
        place, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if place >= count:
            raise ValueError(
                f"device='cuda': torch finds {count} GPUs on this machine, this is process {place + 1}; accepted here: "
                "a process per GPU, or 'cpu'"
            )
        torch.cuda.set_device(place)
    if not dist.is_torchelastic_launched():
        yield True
        return
    os.environ.setdefault("DREAM_ENV_THREADS", "1")  # the processes already use all cores
    dist.init_process_group()  # gloo for tensors on the CPU, nccl for those on GPUs
    try:
        yield rank() == 0
        dist.barrier()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Returns the rank of this process; only rank 0 writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agree(value: Value) -> Value:
    """Returns the first process's value in all processes; needed because clocks and files may differ."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def total(value: float) -> float:
    """Returns the sum of a number over all processes."""
    values: list[Any] = [value] * world()
    if world() > 1:
        dist.all_gather_object(values, value)
    return float(sum(values))


# --- batches


def share(*tensors: Tensor, device: str | torch.device = "cpu") -> tuple[Tensor, ...]:
    """Returns this process's rows of tensors `(B, ...)` that are the same in all processes, moved to its device.

    The remainder of B divided by the number of processes is dropped, so that all processes have the same number of
    rows.

    Raises:
        ValueError: If there are fewer rows than processes.
    """
    count = len(tensors[0]) // world() * world()
    if not count:
        raise ValueError(f"a batch of {len(tensors[0])} rows for {world()} processes; accepted: a row for each")
    return tuple(tensor[rank() : count : world()].contiguous().to(device) for tensor in tensors)


def draw(shape: Sequence[int], generator: torch.Generator, device: str | torch.device = "cpu") -> Tensor:
    """Draws normal numbers for the rows of all processes and returns those for this process's rows.

    Args:
        shape: Shape of this process's part, rows first.
        generator: Generator that is in the same state in all processes.
        device: Device of the result.
    """
    whole = torch.randn((world() * shape[0], *shape[1:]), generator=generator)
    return whole[rank() :: world()].to(device)


def average(tensor: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes; gradients flow to all of them."""
    return tensor if world() == 1 else _Average.apply(tensor)


def gather(rows: Tensor) -> Tensor:
    """Returns the rows of all processes, `(B, ...)` to `(world * B, ...)`; gradients flow to all of them."""
    if world() == 1:
        return rows
    places = nn.functional.one_hot(torch.tensor(rank(), device=rows.device), world()).to(rows.dtype)
    return world() * average(places.view(-1, *[1] * rows.dim()) * rows).flatten(0, 1)


def spread(work: Callable[[Tensor], Sequence[Tensor]], rows: Tensor) -> list[Tensor]:
    """Distributes work over all processes and returns all results in each of them.

    Args:
        work: Maps rows `(N,)` to tensors `(N, ...)`, each row independently of the others.
        rows: All rows, the same in all processes; at least one.

    Returns:
        The tensors for all rows.
    """
    if world() == 1:
        return list(work(rows))
    # The modulo repeats rows at the end, so that all processes have the same number.
    own = rows[torch.arange(rank(), -(-len(rows) // world()) * world(), world()) % len(rows)]
    results = []
    for part in work(own):
        # Sent as bytes, which every backend supports.
        sent = part.reshape(len(part), -1).contiguous().view(torch.uint8)
        got = [torch.empty_like(sent) for _ in range(world())]
        dist.all_gather(got, sent)
        results.append(torch.stack(got, 1).flatten(0, 1)[: len(rows)].view(part.dtype).view(-1, *part.shape[1:]))
    return results


class _Average(torch.autograd.Function):
    """Mean over processes; its backward pass is the same operation."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Average.forward(ctx, gradient)


# --- gradients


def join(module: nn.Module) -> None:
    """Prepares a module for training by all processes.

    Args:
        module: Its parameters and buffers are set to those of the first process, and its batch normalization uses the
            statistics over the rows of all processes from now on.
    """
    if world() == 1:
        return
    for part in module.modules():
        for name, child in part.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(part, name, _BatchNorm2d.of(child))
    for value in module.state_dict().values():
        dist.broadcast(value, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Averages the gradients over all processes, each of which has computed the mean loss over its own rows."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean = average(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, mean.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization with statistics over the rows of all processes; `nn.SyncBatchNorm` supports GPUs only."""

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> _BatchNorm2d:
        """Creates a layer that shares parameters and statistics with the given one."""
        own = cls(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        own._parameters, own._buffers = layer._parameters, layer._buffers
        return own.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        rows = x.float()
        mean = average(rows.mean((0, 2, 3)))
        centered = rows - mean[:, None, None]
        variance = average(centered.square().mean((0, 2, 3)))
        self._track(mean, variance, world() * rows.numel() // len(mean))
        normal = centered * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Updates the running statistics with the unbiased variance, as torch does."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)
