"""The memory that processes of one machine share, of which containers have little unless told otherwise."""

from __future__ import annotations

import os

SMALL_MIB = 64
"""What Docker and Kubernetes give a container; NCCL wants more for several GPUs."""


def too_little_shared_memory(place: str = "/dev/shm") -> str:
    """What a message goes on with when the shared memory is no larger than a container's usual 64 MiB; else nothing."""
    disk = os.statvfs(place)
    size_mib = disk.f_blocks * disk.f_frsize // 2**20
    if size_mib > SMALL_MIB:
        return ""
    return (
        f": {place} holds {size_mib} MiB only; docker run --shm-size 8g, on Kubernetes a medium-Memory emptyDir there"
    )
