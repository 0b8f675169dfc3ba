"""Small programs that train together in many ways, or each rank alone; for meetings.bats.  meetings.py KIND"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path

kind = sys.argv[1]
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
head, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
shared = Path(os.environ["CHECKPOINT_DIRECTORY"], "meet")


def end() -> None:
    print(f"{kind}: rank {rank} is done", flush=True)
    os._exit(0)  # when Python exits, gloo sometimes aborts a rank (torch 2.13)


def learn(model, batches=3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(batches):
        model(torch.ones(2, 4)).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def speak() -> None:
    total = torch.ones(1)
    dist.all_reduce(total)
    assert total.item() == dist.get_world_size()


def child(index: int, world: int, place: int, method: str) -> None:
    dist.init_process_group("gloo", init_method=method, rank=place + index, world_size=world)
    speak()
    time.sleep(0.1)
    os._exit(0)


def until_seen(what: str) -> None:
    """Waits until the job has noted it for all ranks, or for a minute: on a busy machine it looks only now and then."""
    folder = Path(os.environ["RANK_RECORD"]).parent
    for _ in range(300):
        lines = [line.split("\t") for file in folder.glob("*.seen") for line in file.read_text().splitlines()]
        if {str(rank) for rank in range(size)} <= {word for line in lines if line[0] == what for word in line}:
            break
        time.sleep(0.2)


def plain() -> None:
    learn(torch.nn.Linear(4, 1))


def quick() -> None:
    """Exits as soon as torch is imported."""


def ddp() -> None:
    dist.init_process_group("gloo")
    learn(torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1)))


def brief() -> None:
    """Makes a process group for a moment, at the end."""
    plain()
    time.sleep(2)
    dist.init_process_group("gloo")
    speak()
    dist.destroy_process_group()


def fsdp() -> None:
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo")
    model = torch.nn.Linear(4, 1)
    fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (size,)))
    learn(model)


def mesh() -> None:
    torch.distributed.init_device_mesh("cpu", (size,))
    speak()


def by_file() -> None:
    dist.init_process_group("gloo", init_method=f"file://{shared}", rank=rank, world_size=size)
    speak()


def by_tcp() -> None:
    dist.init_process_group("gloo", init_method=f"tcp://{head}:{port + 1}", rank=rank, world_size=size)
    speak()


def by_store() -> None:
    store = dist.FileStore(str(shared), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    speak()


def store_only() -> None:
    store = dist.TCPStore(head, port, size, rank == 0)
    store.add("here", 1)
    while store.add("here", 0) < size:
        time.sleep(0.05)
    plain()
    until_seen("tcp")


def rpc() -> None:
    from torch.distributed import rpc as calls

    calls.init_rpc(f"worker{rank}", rank=rank, world_size=size)
    calls.rpc_sync(f"worker{(rank + 1) % size}", torch.add, args=(torch.ones(2), 1))
    calls.shutdown()
    # Rank 0 holds the store, which the others still use during their shutdown.
    ended = Path(os.environ["OUTPUT_PATH"], f"rpc_{rank}")
    ended.touch()
    while rank == 0 and not all(ended.with_name(f"rpc_{other}").exists() for other in range(size)):
        time.sleep(0.1)


def own_sockets() -> None:
    if rank == 0:
        with socket.create_server(("", port)) as server:
            others = [server.accept()[0] for _ in range(size - 1)]
            plain()
            until_seen("tcp")
            for other in others:
                other.close()
        return
    for _ in range(200):
        try:
            connection = socket.create_connection((head, port))
        except OSError:
            time.sleep(0.05)
        else:
            plain()
            connection.recv(1)
            return


def shared_memory_only() -> None:
    """The ranks of one node communicate through memory."""
    name = f"meet_{os.environ['SLURM_JOB_ID']}"
    block = None
    while block is None:
        try:
            block = shared_memory.SharedMemory(name, create=rank == 0, size=4096)
        except FileNotFoundError:
            time.sleep(0.05)
    plain()
    until_seen("memory")
    if rank == 0:
        # The tracker of a process that only attaches unlinks the block, too, when the process ends (bpo-38119).
        with contextlib.suppress(FileNotFoundError):
            block.unlink()


def in_a_child() -> None:
    subprocess.run([sys.executable, __file__, "ddp"], check=True)


def spawn_together() -> None:
    torch.multiprocessing.spawn(child, (2 * size, 2 * rank, f"tcp://{head}:{port}"), nprocs=2)


def spawn_apart() -> None:
    """Each rank makes its own groups, like --multiprocessing-distributed of PyTorch's ImageNet example."""
    torch.multiprocessing.spawn(child, (2, 0, f"tcp://127.0.0.1:{port}"), nprocs=2)


def group_of_one() -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port + rank}", rank=0, world_size=1)
    learn(torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1)))


def one_server() -> None:
    """All ranks connect to the same server outside of the job, like W&B's, and not to each other."""
    with socket.create_connection((os.environ["MEETINGS_SERVER"], int(os.environ["MEETINGS_PORT"]))):
        plain()
        time.sleep(1)


def accelerated() -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.backward(model(torch.ones(2, 4)).mean())
    optimizer.step()


def mpi() -> None:
    from mpi4py import MPI

    assert MPI.COMM_WORLD.allreduce(1) == size
    plain()
    until_seen("memory")


def lightning(**options) -> None:
    import lightning as L

    class Tiny(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, _):
            return self.layer(batch).pow(2).mean()

        def train_dataloader(self):
            return torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"):
        options[name] = False
    L.Trainer(accelerator="cpu", max_steps=2, **options).fit(Tiny())


def lightning_together() -> None:
    lightning(num_nodes=int(os.environ["NNODES"]), devices=int(os.environ["N_PROC"]), strategy="ddp")


def lightning_single() -> None:
    """Trains without num_nodes and without Slurm's variables, like a program from a notebook."""
    sys.modules["mpi4py"] = None  # nor MPI's
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC"))]:
        del os.environ[name]
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK"):
        os.environ.pop(name, None)
    lightning(devices=1)


def no_framework() -> None:
    """Each rank prepares shards of data alone."""
    print(sum(range(rank, 10**6, size)))


if __name__ == "__main__":
    if kind != "no_framework":
        import torch
        import torch.distributed as dist
    globals()[kind]()
    end()
else:  # a child of torch.multiprocessing
    import torch
    import torch.distributed as dist
