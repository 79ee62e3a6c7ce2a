"""provisional"""
from server.storage.rocksdb import RocksEngine


def open_engine(name, path):
    return RocksEngine(path)
