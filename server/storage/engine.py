"""provisional"""
from typing import Any

Engine = Any
class StorageError(Exception): pass
class StorageDamaged(StorageError): pass
