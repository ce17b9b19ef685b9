"""The pipeline in containers here: what kfp's DockerRunner is told, what is looked at first, what is stopped.

The containers see the run's folder, and whatever of this machine the parameters name, at the same paths.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace import __version__, images
from headrace.errors import InputError
from headrace.options.parse import known_flags
from headrace.options.places import PLACES

LABEL = "headrace.run"
USER, GROUP = 10001, 0
"""The images' own user, for when this process is root's."""
PASSED = (
    "HF_TOKEN", "HF_ENDPOINT", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_DISABLED",
    "STORAGE_EMULATOR_HOST",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "GOOGLE_CLOUD_PROJECT", "OMP_NUM_THREADS", "NO_PROXY", "no_proxy",
)  # fmt: skip
"""Variables of this process's environment that the steps get."""
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
STOP_S = 20
"""How long a container may take to end after SIGTERM."""
OUTPUTS = ("store", "publish")


def check() -> None:
    """InputError unless a Docker daemon can run the pipeline's images, each of this version and this architecture."""
    client = _client()
    try:
        images.check_built()
        machine = client.version()
        for room in images.ROOMS:
            _check_image(client, images.image(room), str(machine["Os"]), str(machine["Arch"]))
    finally:
        client.close()


def _sdk() -> Any:
    """The Docker SDK; InputError when it is not installed. A folder called `docker` in the path is not it."""
    found = importlib.import_module("docker") if importlib.util.find_spec("docker") else None
    if not hasattr(found, "from_env"):
        raise InputError(
            "--runner docker needs the Docker SDK for Python, which is not installed", "pip install docker"
        )
    return found


def _client() -> Any:
    docker = _sdk()
    try:
        return docker.from_env()
    except docker.errors.DockerException as error:
        where = os.environ.get("DOCKER_HOST", "its usual socket")
        if "PermissionError" in str(error):
            raise InputError(
                f"this user may not speak to the Docker daemon at {where}", "join the group docker, or run as root"
            ) from error
        raise InputError(
            f"no Docker daemon answers at {where}: {error}", "start Docker, or point DOCKER_HOST at one"
        ) from error


def _check_image(client: Any, name: str, system: str, architecture: str) -> None:
    docker = _sdk()
    try:
        found = client.images.get(name).attrs
    except docker.errors.ImageNotFound as error:
        raise InputError(
            f"there is no image {name} here", f"build it with docker/build, or docker pull {name}"
        ) from error
    except docker.errors.DockerException as error:
        raise InputError(f"the Docker daemon cannot say what {name} is: {error}", "check the daemon") from error
    if (found["Os"], found["Architecture"]) != (system, architecture):
        raise InputError(
            f"{name} is for {found['Os']}/{found['Architecture']}, the Docker daemon runs {system}/{architecture}",
            "build the images on a machine like this one",
        )
    version = (found["Config"].get("Labels") or {}).get("org.opencontainers.image.version", "none")
    if version != __version__:
        raise InputError(
            f"{name} holds Headrace {version}, this is {__version__}", "build the images anew with docker/build"
        )


def runner(folder: Path, parameters: Mapping[str, Any]) -> Any:
    """Kfp's runner for a run folder, which it makes the containers' user able to write."""
    from docker.types import DeviceRequest, Mount
    from kfp import local

    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        uid, gid = USER, GROUP
        for path in (folder, *folder.iterdir()):
            os.chown(path, uid, gid)
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    places = {**dict.fromkeys(inputs(parameters), True), **dict.fromkeys(outputs(folder, parameters), False)}
    if CREDENTIALS in os.environ:
        environment[CREDENTIALS] = str(Path(os.environ[CREDENTIALS]).absolute())
        places[Path(environment[CREDENTIALS])] = True
    mounts = [Mount(str(path), str(path), type="bind", read_only=only) for path, only in sorted(places.items())]
    client = _client()
    try:
        gpus = "nvidia" in client.info().get("Runtimes", {})
    finally:
        client.close()
    # NCCL moves gradients through shared memory, of which a container has 64 MiB unless told otherwise.
    extra = {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])], "shm_size": "8g"} if gpus else {}
    return local.DockerRunner(
        mounts=mounts, user=f"{uid}:{gid}", environment=environment, working_dir=str(Path.cwd()),
        labels={LABEL: str(folder)}, **extra,
    )  # fmt: skip


def inputs(parameters: Mapping[str, Any]) -> set[Path]:
    """What the parameters name on this machine and nothing writes to; of a glob, the folder above it."""
    values = {**(parameters.get("arguments") or {}), **{k: v for k, v in parameters.items() if k != "arguments"}}
    named = (_there(text) for name in _inputs_of_steps() for text in _texts(values.get(name)))
    return {path for path in named if path is not None}


def _inputs_of_steps() -> list[str]:
    """Flags that may hold a path to read; those that take an object may be the path of a JSON file in its place."""
    objects = (flag.name for flag in known_flags().values() if flag.kind == "dict")
    return [name for name in (*PLACES, "metric", *objects) if name not in (*OUTPUTS, "output_dir")]


def _there(text: str) -> Path | None:
    """What is there by that name; None for what is none, or no path at all."""
    plain = text.removeprefix("file://")
    if not plain or "://" in plain:
        return None
    try:
        path = Path(plain).expanduser().absolute()
        while any(sign in str(path) for sign in "*?["):
            path = path.parent
        return path if path.exists() and path != Path("/") else None
    except (OSError, RuntimeError, ValueError):  # too long for a name; ~ of nobody; a zero byte
        return None


def outputs(folder: Path, parameters: Mapping[str, Any]) -> set[Path]:
    """The run's folder and the folders that checkpoints and results go to; made if they are not there."""
    found = {folder}
    for name in OUTPUTS:
        text = str(parameters.get(name) or "").removeprefix("file://")
        if text and "://" not in text:
            path = Path(text).absolute()
            if not path.is_relative_to(folder):
                path.mkdir(parents=True, exist_ok=True)
                found.add(path)
    return found


def _texts(value: Any) -> Iterator[str]:
    """The texts in a flag's value; of an object, such as a source of a mixture, its name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.get("name"))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def stop(folder: Path) -> None:
    """End a run's containers: SIGTERM, and SIGKILL to what still runs after `STOP_S`. kfp leaves them running."""
    client = _client()
    try:
        running = client.containers.list(filters={"label": f"{LABEL}={folder}"})
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(_stop, container) for container in running]:
                done.result()
    finally:
        client.close()


def _stop(container: Any) -> None:
    docker = _sdk()
    with suppress(docker.errors.NotFound):  # it has just ended
        container.stop(timeout=STOP_S)
