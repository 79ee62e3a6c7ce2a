"""Storage: one ordered key space of bytes behind a small interface, and the engines that implement it.

| file | what |
|---|---|
| `engine.py` | the `Engine` interface, its guarantees, and its errors, which are written for operators |
| `engines.py` | opens an engine by its name |
| `memory.py` | a dict that is sorted when a scan needs it: for tests, caches and the simulator; lost with the process |
| `rocksdb.py` | RocksDB through rocksdict: the durable default, its tuning, its measured costs and its limits |
| `rocksdb_options.py` | its options |
| `encrypted.py` | an engine over another one, which encrypts values; `keyring.py` reads its keys |
| `chunked.py` | an engine over another one, in which a large value is written in chunks before its batch |
| `live_logs.py` | which of RocksDB's log files must exist: one that is missing or cut short is damage |
| `log_check.py` | damage in RocksDB's log files that RocksDB itself does not refuse |

An engine knows nothing of records, partitions or our checksums: keys and values are opaque. The code that builds keys
puts whatever is to be one range (a slot, a partition) into their first bytes.
"""
