"""Trains a small net of torch with a data loader of two workers, and a group of two processes over loopback."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from contract import read, save, say
from torch.utils.data import DataLoader, TensorDataset


def average(rank: int, port: int) -> None:
    """What torchrun's workers do at each step."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    tensor = torch.full((1 << 18,), float(rank))
    dist.all_reduce(tensor)
    assert tensor.eq(1.0).all()
    dist.destroy_process_group()


if __name__ == "__main__":
    told = read()
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    loader = DataLoader(TensorDataset(inputs, inputs.sum(1)), batch_size=32, num_workers=2)
    model = torch.nn.Linear(8, 1)
    steps = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        for features, wanted in loader:
            loss = torch.nn.functional.mse_loss(model(features).squeeze(1), wanted)
            steps.zero_grad()
            loss.backward()
            steps.step()
            losses.append(loss.item())
    say("learned", losses[-1] < losses[0])
    mp.start_processes(average, args=(29500,), nprocs=2, start_method="fork")
    say("averaged", True)
    say("gpus", torch.cuda.device_count())
    say("threads", len(os.sched_getaffinity(0)) > 0)
    save(told)
