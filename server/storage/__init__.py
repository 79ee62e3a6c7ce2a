"""Storage: one ordered key space of bytes behind a small interface, and the engines that keep it.

| file | what |
|---|---|
| `engine.py` | the `Engine` interface, its guarantees, and the errors an operator may read |
| `engines.py` | opening an engine by its name |
| `memory.py` | a dict with a lazy order: for tests, caches and the simulator; gone with the process |
| `rocksdb.py` | RocksDB through rocksdict: the durable default, its tuning, its measured costs and its limits |
| `live_logs.py` | which of RocksDB's log files must exist: one that is missing or cut short is damage |
| `log_check.py` | damage in RocksDB's log files that RocksDB would not refuse by itself |

An engine knows nothing of records, partitions or checksums of ours: keys and values are opaque. Whoever lays out keys
puts what is to be one range (a slot, a partition) into their first bytes.
"""
