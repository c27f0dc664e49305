"""What `cuda.bindings.runtime` has, as JSON on stdout: parameters of functions, members of enumerations."""

from __future__ import annotations

import json
import re

from cuda.bindings import runtime

functions, members, constants = {}, {}, []
for name, value in vars(runtime).items():
    if not name.startswith("cuda"):
        continue
    if isinstance(value, type):
        members[name] = list(getattr(value, "__members__", ()))
    elif callable(value):
        line = (value.__doc__ or "").strip().partition("\n")[0]
        given = re.fullmatch(rf"{name}\((.*)\)", line)
        if given:
            functions[name] = [one.split(":")[0].split()[-1] for one in given[1].split(",") if one.strip()]
    else:
        constants.append(name)
print(json.dumps({"functions": functions, "members": members, "constants": constants}))
