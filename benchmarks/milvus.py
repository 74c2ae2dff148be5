"""What a catalogue in Milvus costs: waiting for a write, searching, exact and by an index. Starts a server of its own (`make .venv/milvus/ready`) unless --at names one.

    python benchmarks/milvus.py [--photos 20000] [--at HOST:PORT]
"""
import argparse, sys, tempfile, time
from pathlib import Path

import numpy as np
from petlost.facts import Report
from petlost.index import PhotoRow
from petlost.milvus import MilvusCatalogue

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from milvus_server import MilvusServer

def timed(do, *args, **kw):
    "What it returns, and milliseconds."
    start = time.perf_counter()
    return do(*args, **kw), 1e3 * (time.perf_counter() - start)

def consistency(where, times=80):
    "Who waits, so that nothing acknowledged is missed: a table of three ways, each with a writer and a reader of their own."
    print('| who waits | adding, ms | a search, ms | missed |\n|---|---|---|---|')
    settle = MilvusCatalogue._settle
    for who, level, waits in (('nobody, bounded', 'Bounded', False), ('nobody, session', 'Session', False), ('every search, strong', 'Strong', False), ('the writer, bounded', 'Bounded', True)):
        rng = np.random.default_rng(0)
        with MilvusCatalogue.create(where(f'{level}{waits:d}'), dict(name='r', id='r', dim=64)) as writer, MilvusCatalogue.open(writer.where) as reader:
            vectors = rng.standard_normal((times, 64))
            def find(vector): return [hit['entity']['report'] for hit in reader._client.search(reader._photos, [vector / np.linalg.norm(vector)], limit=1, output_fields=['report'], consistency_level=level)[0]]
            try:
                if not waits: MilvusCatalogue._settle = lambda *_: None
                adding, searching, missed = [], [], 0
                for i in range(times):
                    adding.append(timed(writer.add, [Report(f'r{i}')], [PhotoRow(f'r{i}', 'a.jpg', 'k', vectors[i])])[1])
                    found, ms = timed(find, vectors[i])
                    searching.append(ms)
                    missed += found != [f'r{i}']
                    writer.remove(f'r{i}')
                    missed += f'r{i}' in find(vectors[i])
            finally: MilvusCatalogue._settle = settle
        print(f'| {who} | {np.median(adding):.0f} | {np.median(searching):.0f} | {missed} of {2 * times} |', flush=True)

def searches(where, photos, dim=2944, asked=100):
    "Searches of one catalogue, compared with everything and by the index of `compact`."
    rng = np.random.default_rng(1)
    base = rng.standard_normal((photos // 3 + 1, 48)).astype(np.float32) @ rng.standard_normal((48, dim)).astype(np.float32)
    make = lambda i: base[i // 3] + 3 * rng.standard_normal(dim).astype(np.float32)
    with MilvusCatalogue.create(where('many'), dict(name='r', id='r', dim=dim)) as cat:
        start = time.perf_counter()
        for first in range(0, photos, 600):
            some = range(first, min(first + 600, photos))
            cat.add([Report(f'r{i}', ('dog', 'cat')[i % 2], seen_at=f'2026-01-{1 + i % 10:02d}') for i in sorted({i // 3 for i in some})], [PhotoRow(f'r{i // 3}', f'{i}.jpg', str(i), make(i)) for i in some])
        print(f'{photos} photos of {dim} numbers added in {time.perf_counter() - start:.0f} s')
        queries, truth = [make(3 * i) for i in rng.integers(0, photos // 3, asked)], None
        filters = dict(everything={}, half=dict(species='cat'), tenth=dict(since='2026-01-03', until='2026-01-03'))
        cat.compact()
        for kind, limit in (('exact', cat.exact_bytes), ('IVF_SQ8', 0)):
            cat.exact_bytes = limit
            _, ms = timed(cat.compact)
            print(f'{kind}: compact {ms / 1e3:.0f} s')
            for name, asking in filters.items():
                cpu, found = time.process_time(), [timed(cat.search, query, 10, **asking) for query in queries]
                cpu = 1e3 * (time.process_time() - cpu) / asked
                ids, ms = [{hit.report for hit in hits} for hits, _ in found], [ms for _, ms in found]
                truth = (truth or {}) if kind == 'IVF_SQ8' else (truth or {}) | {name: ids}
                recall = np.mean([len(a & b) / len(b) for a, b in zip(ids, truth[name])])
                print(f'| {kind} | {name} | p50 {np.median(ms):.0f} ms | p99 {np.quantile(ms, .99):.0f} ms | {cpu:.0f} ms of CPU here | {recall:.3f} of the ten |', flush=True)

def main():
    ask = argparse.ArgumentParser()
    ask.add_argument('--photos', type=int, default=20_000)
    ask.add_argument('--at')
    given, mark = ask.parse_args(), f'b{int(time.time())}'
    with tempfile.TemporaryDirectory() as home:
        server = None if given.at else MilvusServer(Path(home) / 'server').start().wait()
        try:
            where = lambda name: f'milvus://{given.at or f"127.0.0.1:{server.port}"}/{mark}_{name}'
            consistency(where)
            if given.photos: searches(where, given.photos)
        finally:
            if server: server.stop()

if __name__ == '__main__': main()
