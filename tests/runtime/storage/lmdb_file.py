"""A closed store's file, looked at and changed behind its back."""

from pathlib import Path

import lmdb


def raw(path: Path, table: str) -> dict[bytes, bytes]:
    """What lies in a closed store, byte by byte."""
    with lmdb.open(str(path), max_dbs=16) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(db=database) as transaction:
            return {bytes(key): bytes(value) for key, value in transaction.cursor()}


def overwrite(path: Path, table: str, values: dict[bytes, bytes]) -> None:
    """Change a closed store behind its back."""
    with lmdb.open(str(path), max_dbs=16) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(db=database, write=True) as transaction:
            for key, value in values.items():
                transaction.put(key, value)


def flipped(value: bytes, bit: int) -> bytes:
    """A value with one bit turned round, counted from its end."""
    return (int.from_bytes(value, "big") ^ (1 << bit)).to_bytes(len(value), "big")


def remove(path: Path, table: str, key: bytes) -> None:
    """Take a value from a closed store behind its back."""
    with lmdb.open(str(path), max_dbs=16) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(db=database, write=True) as transaction:
            assert transaction.delete(key)
