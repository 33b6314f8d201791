"""The store in a folder: a SQLite database, and files for large objects."""

from daskperiment.store.file.objects import UnnamedObject
from daskperiment.store.file.store import FileStore, FolderState

__all__ = ["FileStore", "FolderState", "UnnamedObject"]
