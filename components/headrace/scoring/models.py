"""A model brought here, checked, and loaded: safetensors only, nothing missing, the same weights for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.artifacts.checkpoint import Fetched, fetch
from headrace.errors import HeadraceError, InputError
from headrace.options import ModelOptions
from headrace.stream.tokenizer import model_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "vocab.*",
    "merges.txt",
    "*.model",
)
CONFIG = ("config.json", "generation_config.json")


def fetch_model(
    location: str, scratch: Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> Fetched:
    """A model folder on this machine with config, weights and tokenizer: from a folder, a URI or the Hub.

    What a commit record vouches for is verified; of a Hub model only what loading needs is fetched.
    """
    if is_hub_name(location):
        small = model_folder(location, revision=revision)  # tells a wrong name before anything large is fetched
        return Fetched(_snapshot(location, revision or small.name, trust_remote_code), None)
    return fetch(location, scratch)


def is_hub_name(location: str) -> bool:
    """Whether a location is neither a folder here nor a path or URI: a model of the Hub."""
    path_like = "://" in location or location.startswith(("/", ".", "~")) or location.count("/") > 1
    return not path_like and not Path(location).is_dir()


def _snapshot(name: str, revision: str, trust_remote_code: bool) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [*WEIGHTS, *TOKENIZER, *CONFIG, *(["*.py"] if trust_remote_code else [])]
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"]
        )
    except (HfHubHTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise HeadraceError(
            f"cannot fetch the weights of {name} from the Hub: {first}", "check the network, then run again"
        ) from error
    return Path(folder)


def require_weights(folder: Path, shown: str) -> None:
    """InputError when a model folder holds no weights that Headrace reads; opens none of them."""
    if any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        return
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"{shown} has its weights in {pickled[0]}; only safetensors are read, because that file may run code",
            "convert it: load and save it with transformers where you trust it",
        )
    raise InputError(
        f"{shown} has no weights: expected {WEIGHTS[0]} or its shards",
        "name a trained model, such as train's output; a configuration alone can only be trained",
    )


def load_model(
    location: Path | str, options: ModelOptions, *, random_init: bool = False, seed: int = 0
) -> PreTrainedModel:
    """The causal language model of a local folder, on the CPU, in eval mode; its dtype is float32 unless named.

    random_init reads the configuration only and gives equal weights for equal seeds. InputError when the folder's
    model cannot be loaded whole: weights missing, of other shapes, or damaged.
    """
    folder = str(location)
    if not random_init:
        require_weights(Path(location), folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    causal: Any = AutoModelForCausalLM  # its annotations leave out what `output_loading_info` adds
    common: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    if options.attn_implementation:
        common["attn_implementation"] = options.attn_implementation
    with _explained(folder), _quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=options.trust_remote_code, local_files_only=True)
        dtype = _dtype(options.torch_dtype, getattr(config, "dtype", None))
        if random_init:
            # The CPU's generator alone: no accelerator is touched, and the caller's own draws go on undisturbed.
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                model = causal.from_config(config, dtype=dtype, **common)
        else:
            model, info = causal.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, local_files_only=True,
                output_loading_info=True, **common,
            )  # fmt: skip
            _check_whole(folder, info)
    loaded: PreTrainedModel = model.eval()
    return loaded


def accelerator_name(device: torch.device) -> str:
    """The name of a device that is no CPU, as its driver tells it; empty for a CPU."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return "" if device.type == "cpu" else device.type


def _dtype(name: str | None, configured: torch.dtype | None) -> torch.dtype:
    """float32 for None and `none`; the configuration's for `auto`; otherwise the one named."""
    import torch

    if name in (None, "none"):
        return torch.float32
    if name == "auto":
        return configured if isinstance(configured, torch.dtype) else torch.float32
    found = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(
            f"--torch_dtype is {name!r}; expected auto, none, or a dtype such as bfloat16, float16 or float32"
        )
    return found


def _check_whole(folder: str, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"the weights in {folder} lack {missing[0]}{more}: they are of another model than its config.json names",
            "name a folder with the weights of a causal language model",
        )


@contextmanager
def _explained(folder: str) -> Iterator[None]:
    """Raise what transformers says of a model it cannot load as InputError."""
    from safetensors import SafetensorError

    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot load the model in {folder}: {first.strip()}",
            "check --model_name_or_path, --torch_dtype and --attn_implementation",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bar, which steps' logs would keep line by line."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
