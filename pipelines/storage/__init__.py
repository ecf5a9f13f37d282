"""Bytes on disks and in object stores: paths, commits, locks, JSON, Parquet, tar."""
