"""S3 as one who has the environment's credentials sees it: clients, and errors in one line."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unmask.runtime.addresses import redacted
from unmask.runtime.disk import writing
from unmask.storage.blobs import (
    MAX_CONNECTIONS,
    BlobError,
    StorageError,
    Store,
    StoredFile,
    content_md5,
)

_DENIED = {"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"}
_SIGNED_OUT = {
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId",
}  # fmt: skip
_GONE = {"404", "NoSuchKey"}


@dataclass(frozen=True)
class Remote:
    """A DVC remote in S3, or in a server that answers as S3 does. It holds no secret."""

    store: Store
    endpoint_url: str | None = None
    region: str | None = None

    def client(self, *, attempts: int = 8) -> Any:
        """Return a client for it, which has the environment's credentials or the machine's role.

        It tries again where the network or the service fails.

        Raises:
            StorageError: the environment names a profile that is not there, or the address of the
                server is none.
        """
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        patience = Config(
            retries={"mode": "standard", "max_attempts": attempts}, connect_timeout=10,
            max_pool_connections=MAX_CONNECTIONS,
        )  # fmt: skip
        try:
            return boto3.session.Session().client(
                "s3", endpoint_url=self.endpoint_url, region_name=self.region, config=patience
            )
        except BotoCoreError as error:
            raise signed_out(f"for {self.store.uri}", str(error)) from error
        except ValueError as error:
            raise StorageError(
                f"Asked for {self.store.uri} of a server of your own; botocore said: "
                f"{redacted(str(error))}. Correct its address: `dvc remote modify NAME endpointurl "
                "https://HOST:PORT`, or the variable AWS_ENDPOINT_URL."
            ) from error


@contextmanager
def asking(request: str, action: str) -> Iterator[None]:
    """Turn errors of AWS and of the network into a StorageError that says what was asked for.

    request completes "Asked AWS ..."; action is the permission that the request needs.

    Raises:
        StorageError: the request was refused or did not arrive.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
    )

    try:
        yield
    except NoCredentialsError as error:
        raise signed_out(request, "found no credentials") from error
    except _unusable_sign_ins() as error:
        raise signed_out(request, " ".join(str(error).split()).rstrip(".")) from error
    except ParamValidationError as error:
        raise StorageError(
            f"Asked AWS {request}; it takes no such request: {' '.join(str(error).split())}. "
            "Correct what it names and type the same again: nothing is done twice."
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(
            f"Asked AWS {request}; it could not be asked: {redacted(str(error))}. Type the same "
            "again when it answers: nothing is done twice."
        ) from error
    except ClientError as error:
        found = error.response.get("Error", {})
        if found.get("Code") in _SIGNED_OUT:
            raise signed_out(request, str(found.get("Message"))) from error
        if found.get("Code") in _DENIED:
            raise StorageError(
                f"Asked AWS {request}; it was refused: {found.get('Message')}. Have {action} "
                "allowed for you, or sign in as somebody who may."
            ) from error
        raise StorageError(
            f"Asked AWS {request}; it answered {found.get('Code')}: {found.get('Message')}. "
            "Correct what it names and type the same again: nothing is done twice."
        ) from error


def _unusable_sign_ins() -> tuple[type[Exception], ...]:
    """Return what botocore raises, before it asks AWS, of a sign-in that has ended or lacks parts.

    The errors of `aws login` are newer than the oldest botocore that we take.
    """
    from botocore import exceptions

    names = (
        "CredentialRetrievalError", "LoginError", "PartialCredentialsError",
        "RefreshWithMFAUnsupportedError", "SSOError", "TokenRetrievalError",
    )  # fmt: skip
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def signed_out(request: str, found: str) -> StorageError:
    """Return the error of somebody whose credentials AWS does not take."""
    return StorageError(
        f"Asked AWS {request}; {found}. Sign in (`aws sso login`, `aws configure`, or AWS_PROFILE) "
        "and type the same again: nothing is done twice."
    )


def code_of(error: Any) -> str:
    """Return AWS's name for a ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


# ---------------------------------------------------------------- objects


def read(s3: Any, bucket: str, name: str, *, most_bytes: int) -> bytes | None:
    """Return what an object holds; None where there is none of that name, or it has more bytes."""
    from botocore.exceptions import ClientError

    with asking(f"for s3://{bucket}/{name}", "s3:GetObject and s3:ListBucket"):
        try:
            found = s3.get_object(Bucket=bucket, Key=name)
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        # An unread body would keep its connection. Not `with body`: that gives the raw stream, of
        # which half may pass for the whole.
        with closing(found["Body"]) as body:
            if found["ContentLength"] > most_bytes:
                return None
            content: bytes = body.read()
            return content


def save(s3: Any, bucket: str, name: str, target: Path) -> bool:
    """Write an object's content to a file; say whether there is an object of that name.

    Raises:
        DiskError: the disk takes no more.
        StorageError: S3 does not answer.
    """
    from botocore.exceptions import ClientError

    with writing(target), asking(f"for s3://{bucket}/{name}", "s3:GetObject and s3:ListBucket"):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            s3.download_file(bucket, name, str(target))
        except ClientError as error:
            if code_of(error) in _GONE:
                return False
            raise
    return True


def download(s3: Any, store: Store, files: Iterable[StoredFile], root: Path) -> None:
    """Put each file at its path below root, after checking that its content is the one it had.

    Raises:
        BlobError: a blob is missing, or is another file's or half a file.
        DiskError: the disk takes no more.
    """
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        list(pool.map(partial(_fetch, s3, store, root), files))


def _fetch(s3: Any, store: Store, root: Path, file: StoredFile) -> None:
    target, name = root / file.path, store.object_name(file)
    if not save(s3, store.bucket, name, target):
        raise BlobError(
            f"{file.path}: asked for its content, s3://{store.bucket}/{name}; there is no such "
            "object. Run `dvc push` where the file is."
        )
    if (found := content_md5(target)) != file.md5:
        raise BlobError(
            f"{file.path}: asked for content of MD5 {file.md5}, found {found} in "
            f"s3://{store.bucket}/{name}. Delete that object and run `dvc push` where the file is "
            "whole."
        )
