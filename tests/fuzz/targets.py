"""All that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Mapping

import fuzz_bundles
import fuzz_commands
import fuzz_pickles
import fuzz_pictures
import fuzz_prompts
import fuzz_weights
from fuzz_target import Target

_MODULES = (fuzz_pictures, fuzz_prompts, fuzz_bundles, fuzz_weights, fuzz_pickles, fuzz_commands)


TARGETS: Mapping[str, Target] = {one.name: one for module in _MODULES for one in module.TARGETS}
