"""One line that stands for everything a validation looks at, so that its result can be used again while that is so."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headrace import inputs
from headrace.artifacts.files import canonical_json
from headrace.entry import log_to_stderr, task_options
from headrace.errors import HeadraceError

log = logging.getLogger(__name__)

UNKNOWN = "unknown-"


def pin(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the dataset's files (path, size, etag or revision), the tokenizer and the model's limits.

    What cannot be looked at gives a line of its own each time: validation is where that is found and explained.
    """
    options = task_options(values)
    log_to_stderr(options)
    try:
        found = {
            "files": inputs.open_listing(options).hash,
            "tokenizer": inputs.open_encoder(options).hash,
            "model": asdict(inputs.open_limits(options)),
        }
    except HeadraceError as error:
        log.warning("validation will say more: %s", error.message)
        return UNKNOWN + uuid.uuid4().hex
    return hashlib.sha256(canonical_json(found)).hexdigest()
