"""What to say when the hub does not give what was asked for."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sdrt.errors import ExportError, InputError

from .weights import PICKLES


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is wanted of the hub. revision: branch, tag or commit; token: None takes the stored one."""

    repo_id: str
    revision: str | None
    variant: str | None
    token: str | None = field(repr=False)

    @property
    def options(self) -> str:
        """The revision, as `hf download` takes it."""
        return f" --revision {self.revision}" if self.revision else ""


class UnreachableError(ExportError):
    """The hub cannot be asked now. reason: why, as a clause."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; run the same command again, what is downloaded stays")
        self.reason = reason


@contextlib.contextmanager
def telling(asked: Asked) -> Iterator[None]:
    """Turn errors of huggingface_hub into one line that says what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{asked.repo_id}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ExportError(
            f"{asked.repo_id} is gated: accept its licence at {page}, then log in with: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"{asked.repo_id} has no revision {asked.revision!r}; see {page}/tree/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{asked.repo_id} is no local path, and no repository at {constants.ENDPOINT} that you can see; "
            "check its spelling, or log in if it is private: hf auth login"
        ) from error
    except errors.HFValidationError as error:
        raise InputError(
            f"{asked.repo_id} is neither a local path nor the id of a repository: {_line(error)}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refusal(asked, error.response.status_code, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise ExportError(
                f"cannot write to the cache {constants.HF_HUB_CACHE}: {error.strerror}; "
                "make room, or give another place in HF_HOME"
            ) from error
        raise UnreachableError(f"{constants.ENDPOINT} cannot be reached ({_line(error)})") from error
    except Exception as error:  # of requests, httpx or httpx2, by version of huggingface_hub
        raise UnreachableError(f"{constants.ENDPOINT} cannot be reached ({_line(error)})") from error


def _refusal(asked: Asked, status: int, error: Exception) -> ExportError:
    if status in (401, 403):
        return ExportError(
            f"the hub refuses access to {asked.repo_id} ({status}): the token is wrong, expired or "
            "without the right to read it; log in with: hf auth login"
        )
    if status == 429 or status >= 500:
        return UnreachableError(f"the hub does not serve {asked.repo_id} now ({status})")
    return ExportError(f"the hub does not give {asked.repo_id}: {_line(error)}")


def no_index(asked: Asked, names: Collection[str]) -> str:
    """What to say of a repository without model_index.json, by its files."""
    here = [name for name in sorted(names) if "/" not in name]
    single = [name for name in here if name.endswith(".safetensors")]
    if single:
        return (
            f"{asked.repo_id} is not in diffusers layout (no model_index.json) but holds "
            f"{', '.join(single[:4])}; download one and export the file: "
            f"hf download {asked.repo_id} {single[0]}{asked.options}"
        )
    if any(PurePosixPath(name).suffix in PICKLES for name in here):
        return (
            f"{asked.repo_id} has no model_index.json and only pickled weights, which can run any code when "
            "loaded; use a repository in diffusers layout with .safetensors"
        )
    return f"{asked.repo_id} has no model_index.json; expected a repository in diffusers layout"


def nothing_cached(asked: Asked, reason: str) -> str:
    """What to say where not even model_index.json is cached."""
    weights = f"*/*.{asked.variant}*.safetensors" if asked.variant else "*/*.safetensors"
    return (
        f"{reason}, and nothing of {asked.repo_id} is in the cache {_cache()}, not even model_index.json; "
        f"where there is a network, get it with: hf download {asked.repo_id}{asked.options} "
        f"--include '*.json' --include '*/*.txt' --include '{weights}'"
    )


def not_cached(asked: Asked, missing: Iterable[str], reason: str) -> str:
    """What to say where some files are not cached."""
    return (
        f"{reason}, and files of {asked.repo_id} are missing in the cache {_cache()}; "
        f"where there is a network, get them with: "
        f"hf download {asked.repo_id}{asked.options} {' '.join(missing)}"
    )


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
