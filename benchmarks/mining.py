"""What mining costs beside other ways: `make bench-mining`, or `python benchmarks/mining.py [--count 200000] [--dim 2944] [--rounds 1]`.

Photos are drawn: look-alike breeds, pets of them, three photos in a report; each direction counts a little less than the one before. They lie in a file in float16, as a catalogue gives them out.

*petlost* is `mine` from end to end: neighbours, ledger, guards, positives, failures and audit. *Brute force* is a blocked matrix product over full vectors, which keeps the 25 best of each photo. *pytorch-metric-learning* is its
`BatchHardMiner`, which keeps one negative of each, given blocks of anchors against all photos: the whole at once would be a matrix of 160 GB. Of these two a part of the anchors is timed and the seconds multiplied, which is exact, since each anchor costs
the same; what was timed is said. They run before and after petlost, each in a process of its own, and the mean counts. Memory is the most that a process held, the part of the file that it had looked at included.

*Recall* is the share of the true 25 nearest reports of 400 photos that petlost's lists hold."""
import argparse, json, os, re, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
from turns import keep_figures, versions

K, BLOCK = 25, 500 # neighbours of each, anchors in a block

def draw(path: Path, n: int, dim: int):
    "Vectors float16 [n, dim] into a file."
    rng, decay = np.random.default_rng(0), np.arange(1, dim + 1, dtype='f4') ** -.6
    breed = rng.standard_normal((max(8, n // 500), dim), dtype='f4')
    x = np.lib.format.open_memmap(path, 'w+', '<f2', (n, dim))
    for at in range(0, n, 6000):
        pets = np.arange(at, min(n, at + 6000)) // 3
        own = np.random.default_rng(at + 1).standard_normal((pets[-1] - pets[0] + 1, dim), dtype='f4')[pets - pets[0]]
        some = (breed[rng.integers(len(breed), size=pets[-1] - pets[0] + 1)[pets - pets[0]]] + .8 * own + .7 * rng.standard_normal((len(pets), dim), dtype='f4')) * decay
        x[at:at + 6000] = some / np.linalg.norm(some, axis=1, keepdims=True)

def clocks() -> tuple[float, float]:
    t = os.times()
    return time.perf_counter(), t.user + t.system

def spent(work) -> dict:
    "Seconds on the clock and of processor time, and the most memory that this process has held, in MB."
    start = clocks()
    found = work()
    wall, cpu = np.subtract(clocks(), start).tolist()
    return dict(wall=wall, cpu=cpu, mb=int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024, found=found)

def petlost(path: str) -> dict:
    from petlost.facts import Report
    from petlost.mining import mine
    v = np.load(path, mmap_mode='r')
    photos = [(f'r{i // 3:06}', f'r{i // 3:06}/{i % 3}.jpg') for i in range(len(v))]
    def work():
        summary = mine(v, photos, {r: Report(r) for r, _ in photos}).summary
        return {name: summary[name] for name in ('hard_negatives', 'by_kind', 'share_refused')}
    return spent(work)

def near(path: str) -> dict:
    "Neighbours alone, and their recall."
    from petlost.neighbours import neighbours
    v = np.load(path, mmap_mode='r')
    owner, kept = np.arange(len(v)) // 3, {}
    def work():
        kept['near'] = neighbours(v, owner, np.zeros(len(v), int), K)
        return {}
    got = spent(work)
    asked = np.sort(np.random.default_rng(1).choice(len(v), 400, replace=False))
    truth = exactly(v, owner, asked)
    mine = np.isin(kept['near'].anchor, asked)
    listed = set(zip(kept['near'].anchor[mine].tolist(), owner[kept['near'].near[mine]].tolist()))
    got['found'] = dict(recall=float(np.mean([(a, r) in listed for a, reports in zip(asked.tolist(), truth) for r in reports])))
    return got

def exactly(v, owner, asked) -> list[list[int]]: # nearest reports of each photo asked about
    q, best = np.asarray(v[asked], 'f4'), np.full((len(asked), owner[-1] + 1), -2, 'f4')
    for at in range(0, len(v), 6000):
        cosines = q @ np.asarray(v[at:at + 6000], 'f4').T
        cosines[owner[asked][:, None] == owner[at:at + 6000]] = -2
        reports = np.unique(owner[at:at + 6000])
        best[:, reports] = np.maximum.reduceat(cosines, np.searchsorted(owner[at:at + 6000], reports), axis=1)
    return np.argsort(-best, axis=1)[:, :K].tolist()

def brute(path: str, blocks: str) -> dict:
    v = np.asarray(np.load(path, mmap_mode='r'), 'f4')
    def work():
        for i in range(int(blocks)):
            cosines = v[i * BLOCK:(i + 1) * BLOCK] @ v.T
            np.argpartition(-cosines, K + 3, axis=1)[:, :K + 3]
        return int(blocks) * BLOCK
    return spent(work)

def theirs(path: str, blocks: str) -> dict:
    import torch
    from pytorch_metric_learning.miners import BatchHardMiner
    v = torch.from_numpy(np.asarray(np.load(path, mmap_mode='r'), 'f4'))
    label, miner = torch.arange(len(v)) // 3, BatchHardMiner()
    def work():
        for i in range(int(blocks)):
            at = slice(i * BLOCK, (i + 1) * BLOCK)
            miner(v[at], label[at], v, label)
        return int(blocks) * BLOCK
    return spent(work)

WORK = dict(petlost=petlost, near=near, brute=brute, theirs=theirs)

def apart(part: str, *args) -> dict:
    done = subprocess.run([sys.executable, __file__, '--child', json.dumps([part, *map(str, args)])], capture_output=True, encoding='utf-8')
    if done.returncode: raise RuntimeError(f'{part} ended with {done.returncode}: {done.stderr[-2000:]}')
    return json.loads(done.stdout)

def main(n: int, dim: int, rounds: int, folder: str, blocks: int=4):
    path = Path(folder, 'vectors.npy')
    draw(path, n, dim)
    print(f'{n:,} photos, vectors of {dim:,}', flush=True)
    got = dict(brute=[apart('brute', path, blocks)], theirs=[apart('theirs', path, blocks)], petlost=[], near=[])
    for _ in range(rounds):
        for part in ('petlost', 'near', 'brute', 'theirs'): got[part].append(apart(part, path, *[blocks] * (part in ('brute', 'theirs'))))
    scale = n / (blocks * BLOCK)
    for part in ('brute', 'theirs'):
        for one in got[part]: one.update(wall=one['wall'] * scale, cpu=one['cpu'] * scale)
    mean = {part: {key: float(np.mean([one[key] for one in some])) for key in ('wall', 'cpu', 'mb')} for part, some in got.items()}
    names = dict(petlost='petlost, all of mining', near='petlost, the neighbours alone', brute=f'brute force, {blocks * BLOCK:,} anchors times {scale:.0f}', theirs=f'BatchHardMiner, {blocks * BLOCK:,} anchors times {scale:.0f}')
    print('| way | minutes | processor minutes | MB | time, ratio to petlost | memory, ratio |\n|---|---|---|---|---|---|')
    for part, name in names.items():
        m, own = mean[part], mean['petlost']
        print(f'| {name} | {m["wall"] / 60:.1f} | {m["cpu"] / 60:.1f} | {m["mb"]:,.0f} | {m["wall"] / own["wall"]:.2f} | {m["mb"] / own["mb"]:.2f} |')
    keep_figures(f'mining of {n:,} photos', 's of processor time', {name: mean[part]['cpu'] for part, name in names.items()},
                 {names['brute']: versions('numpy'), names['theirs']: versions('pytorch-metric-learning', 'torch')})
    print(got['petlost'][0]['found'], got['near'][0]['found'])

if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument('--count', type=int, default=200_000)
    options.add_argument('--dim', type=int, default=2944)
    options.add_argument('--rounds', type=int, default=1)
    options.add_argument('--only', choices=list(WORK), help='this one alone, once')
    options.add_argument('--child', help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        part, *args = json.loads(asked.child)
        sys.exit(print(json.dumps(WORK[part](*args))))
    with tempfile.TemporaryDirectory() as folder:
        if not asked.only: main(asked.count, asked.dim, asked.rounds, folder)
        else:
            draw(Path(folder, 'vectors.npy'), asked.count, asked.dim)
            print(apart(asked.only, Path(folder, 'vectors.npy'), *[4] * (asked.only in ('brute', 'theirs'))))
