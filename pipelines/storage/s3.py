"""Objects of S3 under their exact names, where s3fs reads a part of some as a version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.storage.store import ANSWER_SECONDS, Entry, file_system, is_marker

PIECE_BYTES: Final = 1 << 20


class S3:
    """A store with the S3 interface, accessed through s3fs."""

    def __init__(self) -> None:
        # Only `stores` retries: retries of the two layers below would multiply with it.
        waits = {"connect_timeout": ANSWER_SECONDS, "read_timeout": ANSWER_SECONDS}
        self._files = file_system("s3", config_kwargs={**waits, "retries": {"max_attempts": 1}})
        self._files.retries = 1
        # It would put `x?versionId=1` under the name `x`.
        self._files.split_path = lambda path: (*_parts(path), None)

    def look(self, key: str) -> Entry:
        try:
            return _entry(self._ask("head_object", key), "ContentLength")
        except FileNotFoundError:
            raise
        except Exception:
            # A response to HEAD has no body and so no error code; the response to GET has one.
            self.read(key, 0, 1)
            raise

    def find(self, key: str) -> dict[str, Entry]:
        bucket, prefix = _parts(key)
        entries: dict[str, Entry] = {}
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            entries |= {f"{bucket}/{one['Key']}": _entry(one, "Size") for one in page.get("Contents", ())}
            if not page.get("IsTruncated"):
                return {name: one for name, one in entries.items() if not is_marker(name, one)}
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def is_folder(self, key: str) -> bool:
        bucket, prefix = _parts(f"{key.rstrip('/')}/")
        return bool(self._call("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        wanted = {} if end is None and not start else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        async def taken() -> bytes:
            return b"".join([piece async for piece in self._pieces(key, **wanted)])

        return self._run(taken)

    def fetch(self, key: str, target: Path) -> None:
        async def written() -> None:
            with target.open("wb") as file:
                async for piece in self._pieces(key):
                    file.write(piece)

        self._run(written)

    def put(self, key: str, source: Path) -> None:
        self._files.put_file(str(source), key)

    def remove(self, key: str) -> None:
        self._ask("delete_object", key)

    def _ask(self, request: str, key: str, **more: Any) -> Any:
        bucket, name = _parts(key)
        return self._call(request, Bucket=bucket, Key=name, **more)

    def _call(self, request: str, **named: Any) -> Any:
        return self._run(lambda: self._files._call_s3(request, **named))

    async def _pieces(self, key: str, **more: Any) -> AsyncIterator[bytes]:
        """The bytes of an object, as they come."""
        bucket, name = _parts(key)
        body = (await self._files._call_s3("get_object", Bucket=bucket, Key=name, **more))["Body"]
        async with body:
            while piece := await body.read(PIECE_BYTES):
                yield piece

    def _run(self, act: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self._files.loop, act)


def _parts(key: str) -> tuple[str, str]:
    """Bucket and name."""
    bucket, _, name = key.partition("/")
    return bucket, name


def _entry(found: Any, size: str) -> Entry:
    return Entry(int(found[size]), round(found["LastModified"].timestamp() * 1000) * 1_000_000)
