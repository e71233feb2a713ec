"""What goes wrong at a place elsewhere: in one sentence each, and whether another attempt may help."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import HDistillError, RemoteError

_NEEDS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
}
_LOGIN = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (AWS_PROFILE); a public bucket needs FSSPEC_S3_ANON=true",
    "gs": "`gcloud auth application-default login`; a public bucket needs FSSPEC_GS_TOKEN=anon",
    "hf": "`hf auth login`, or HF_TOKEN",
}
_PASSES = {"aiohttp", "botocore", "aiobotocore", "httpx", "httpcore", "requests", "urllib3", "gcsfs", "fsspec"}
_STAYS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EINVAL, errno.ENAMETOOLONG, errno.EFBIG, errno.ENOENT}
_NO_LOGIN = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "LocalTokenNotFoundError"}


class MayPass(RemoteError):
    """A failure that another attempt may not meet."""


class Damaged(RemoteError):
    """A file that is not what the manifest says it is."""


class Missing(RemoteError):
    """A file that is not there."""


class Refused(RemoteError):
    """Credentials are missing or not enough; some stores say so of files that are not there, too."""


@contextmanager
def translate_errors(address: str, protocol: str, doing: str) -> Iterator[None]:
    """Turn what fsspec and the packages under it raise into one sentence, and into MayPass where trying again may help."""
    try:
        yield
    except HDistillError:
        raise
    except Exception as error:
        raise _as_remote_error(error, address, protocol, doing) from error


def _as_remote_error(error: Exception, address: str, protocol: str, doing: str) -> RemoteError:
    name, text = type(error).__name__, " ".join(str(error).split())
    status = _status(error) or _status(error.__cause__)
    family = {"s3a": "s3", "gcs": "gs"}.get(protocol, protocol)
    if isinstance(error, ImportError):
        package = _NEEDS.get(protocol, "a package")
        return RemoteError(
            f"{protocol}:// needs {package}, which is not installed ({text}): pip install -c constraints.txt '.[remote]'."
        )
    if isinstance(error, ValueError) and "Protocol not known" in text:
        return RemoteError(f"No way is known to reach {address}; use a folder, s3://, gs://, http(s):// or hf://.")
    absent = isinstance(error, FileNotFoundError) or status == 404
    if name == "RepositoryNotFoundError" or (family == "hf" and doing == "written" and absent):
        kind_of = " --repo-type dataset" if address.startswith("hf://datasets/") else ""
        return RemoteError(
            f"{address}: there is no such repository, or it is private; make it with `hf repo create OWNER/NAME{kind_of}`, "
            "or log in with `hf auth login`."
        )
    if (
        name in _NO_LOGIN
        or status in (401, 403)
        or (isinstance(error, PermissionError) and protocol not in ("file", "local"))
    ):
        how = f" Log in with {_LOGIN[family]}." if family in _LOGIN else ""
        return Refused(f"{address} may not be {doing} with these credentials, or with none ({text or name}).{how}")
    if re.search(r"bucket.{0,40}(does not exist|not exist|not found)|NoSuchBucket", text, re.IGNORECASE):
        return RemoteError(f"{address}: there is no such bucket; make it first, or check its name.")
    if absent:
        return Missing(f"{address}: a file is not there ({text or name}).")
    kind = MayPass if _may_pass(error, status) else RemoteError
    return kind(f"{address} could not be {doing} ({name}: {text or 'no reason given'}).")


def _may_pass(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status >= 500 or status in (408, 429)
    if isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)):
        return False
    if isinstance(error, OSError) and error.errno in _STAYS:
        return False
    if isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError, EOFError)):
        return True
    return type(error).__module__.split(".")[0] in _PASSES


def _status(error: BaseException | None) -> int | None:
    """The http status that an error carries, if any."""
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None
