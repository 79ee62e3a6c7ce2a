"""provisional"""
from rocksdict import Options, Rdict, ReadOptions, WriteBatch


class RocksEngine:
    def __init__(self, path):
        o = Options(raw_mode=True)
        o.create_if_missing(True)
        o.set_max_background_jobs(2)
        self.db = Rdict(str(path), o)
        self.get = self.db.get
    def commit(self, writes):
        wb = WriteBatch(raw_mode=True)
        put = wb.put
        for k, v in writes.items():
            put(k, v)
        self.db.write(wb)
    def scan(self, start, end, limit):
        out = []
        it = self.db.iter(ReadOptions())
        it.seek(start)
        while it.valid() and len(out) < limit:
            k = it.key()
            if end is not None and k >= end: break
            out.append((k, it.value())); it.next()
        return out
    def count(self): return sum(1 for _ in self.db.keys())
    def sync(self): self.db.flush_wal(True)
    def close(self): self.db.close()
