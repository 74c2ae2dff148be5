"""Embedding and evaluation beside other ways, in one run, as ratios: `make bench-embed`, or
`python benchmarks/embed.py [PART …] [--photos FOLDER] [--count 128] [--memory 64 256]`; the parts are pipeline, bound, stages, memory and evaluation.

The machine may be busy with other things. So contestants take turns, and beside the time on the clock stands the processor time of all
cores, child processes included, which others disturb little. What takes much memory runs in a process of its own."""
import argparse, json, os, re, resource, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from unittest import mock
import numpy as np
from turns import keep_figures, seconds, versions
from ways import CORES, embed_all, timm_loop, wildlife

def clocks() -> np.ndarray:
    "Seconds on the clock, and of processor time."
    return np.array([time.perf_counter(), time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])])

def take_turns(rounds: int, **contestants) -> dict[str, np.ndarray]:
    "Median seconds of each on both clocks, run in turn; the first turn of each does not count."
    for work in contestants.values(): work()
    times = [{name: seconds(work, clocks) for name, work in contestants.items()} for _ in range(rounds)]
    return {name: np.median([t[name] for t in times], axis=0) for name in contestants}

def peak() -> float:
    "The most memory that this process has held, in MB, native code included."
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024

def apart(part: str, *args, limit_gb: float=0, one_core: bool=False):
    "One of `CHILDREN` in a process of its own: its result, or what it said when the memory it may have was not enough."
    def before():
        if limit_gb: resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 2**30),) * 2)
        if one_core: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    done = subprocess.run([sys.executable, __file__, '--child', json.dumps([part, *map(str, args)])], capture_output=True, encoding='utf-8', preexec_fn=before)
    if done.returncode and limit_gb: return (done.stderr.strip() or f'killed by signal {-done.returncode}').splitlines()[-1]
    if done.returncode: raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])

# ---- photos

def write_photos(folder: Path, count: int, originals: list[bytes]) -> list:
    "So many files that are pictures with different keys: the originals over and over, each with a number after its end."
    from petlost.photoset import read_photos
    folder.mkdir()
    for i in range(count): (folder / f'{i:04d}.jpg').write_bytes(originals[i % len(originals)] + i.to_bytes(4, 'big'))
    return read_photos(folder).photos

def originals(photos: Path|None, count: int=24) -> list[bytes]:
    "JPEG files: of drawn pets, or some of a folder's."
    from petlost.photoset import read_photos
    from petlost.sample import draw, random_pet, random_shot
    if photos:
        found = [p.path.read_bytes() for p in read_photos(photos).photos if str(p.path).lower().endswith(('.jpg', '.jpeg'))]
        return found[::-(-len(found) // count)]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count): draw(random_pet(i), random_shot(i), size=(1024, 768)).photo.save(Path(folder, f'{i}.jpg'), quality=90)
        return [path.read_bytes() for path in sorted(Path(folder).iterdir())]

# ---- the pipeline beside a loop of timm and torch, and beside wildlife-tools; one backbone, whole photos

def pipeline(photos, rounds: int=3):
    "Photos a second from files on the disk; petlost's part also makes keys, hashes and thumbnails."
    import timm
    from petlost.backbone import PACKAGED, create_backbone
    from petlost.embed import load_model
    model, module = load_model('lite0'), create_backbone(PACKAGED[0])[0].eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module))
    contestants = dict(ours=lambda: embed_all(photos, model), loop=lambda: timm_loop(photos, module, transform))
    if there := find_spec('wildlife_tools'): contestants['wildlife'] = lambda: wildlife(photos, module, transform)
    took = take_turns(rounds, **contestants)
    print(f'Lite0 on {len(photos)} whole photos, {CORES} cores: petlost embeds {len(photos) / took["ours"][0]:.0f} a second')
    named = {'petlost': 'ours', 'timm and a DataLoader': 'loop'} | ({"wildlife-tools' DeepFeatures": 'wildlife'} if there else {})
    keep_figures(f'Lite0 on {len(photos)} whole photos', 'ms of processor time a photo', {name: took[key][1] for name, key in named.items()},
                 {'timm and a DataLoader': versions('timm', 'torch'), "wildlife-tools' DeepFeatures": versions('wildlife-tools', 'timm', 'torch') if there else ''}, 1000 / len(photos))
    for name, what in dict(loop='timm and a DataLoader', wildlife="wildlife-tools' DeepFeatures").items():
        if name not in took: continue
        clock, cpu = took[name] / took['ours']
        print(f'  {clock:.1f} times as fast as {what} ({len(photos) / took[name][0]:.0f} a second), {cpu:.1f} times by processor time')
    if not there: print('  not beside wildlife-tools, which is not installed here: make bench-embed does that')

# ---- the default model beside the inference in it

def bound(photos, rounds: int=3):
    "The pipeline beside its own networks, given the same tensors again by as many threads."
    from petlost.embed import load_model
    from petlost.runtime import Network
    model, run, calls = load_model(), Network.__call__, {}
    def note(network, *inputs):
        calls[current].append((network, inputs))
        return run(network, *inputs)
    with mock.patch.object(Network, '__call__', note):
        for current, photo in enumerate(photos):
            calls[current] = []
            embed_all([photo], model, workers=1)
    def again(of):
        for network, inputs in calls[of]: network(*inputs)
    with ThreadPoolExecutor(CORES) as pool:
        took = take_turns(rounds, ours=lambda: embed_all(photos, model), alone=lambda: list(pool.map(again, calls)))
    keep_figures(f'the default model on {len(photos)} photos', 'ms of processor time a photo', {'petlost': took['ours'][1], 'its networks alone, on ready tensors': took['alone'][1]}, scale=1000 / len(photos))
    (clock, cpu), each = took['alone'] / took['ours'], 1000 * took['ours'][1] / len(photos)
    print(f'the default model on {len(photos)} photos, {CORES} cores: {len(photos) / took["ours"][0]:.1f} a second, {each:.0f} ms of one core a photo')
    passes = np.mean([len(c) for c in calls.values()])
    print(f'  its {passes:.1f} network passes a photo alone, on ready tensors: {len(photos) / took["alone"][0]:.1f} a second; '
          f'share reached {clock:.0%}, {cpu:.0%} by processor time')

STAGES = dict(
    read=['petlost.embed.read_bytes'], decode=['petlost.embed.open_photo'], networks=['petlost.runtime.Network.__call__'],
    GrabCut=['petlost.segment.refine_edge'], segmentation=['petlost.segment.SaliencySegmenter._one'], views=['petlost.embed.render'],
    tensors=['petlost.embed.to_input', 'petlost.segment.to_input'], masks=['petlost.kept_masks.pack_mask', 'petlost.kept_masks.unpack_mask'],
    thumbnail=['petlost.embed.thumbnail'], hash=['petlost.embed.perceptual_hash'])

def stages(folder: str, count: str) -> dict[str, float]:
    "Seconds of processor time in each stage and not in a stage within it, on one core."
    import cv2
    from petlost.embed import load_model
    from petlost.photoset import read_photos
    cv2.setNumThreads(1)
    spent, within, since = {'the rest': 0., **dict.fromkeys(STAGES, 0.)}, ['the rest'], time.process_time()
    def switch():
        nonlocal since
        now = time.process_time()
        spent[within[-1]] += now - since
        since = now
    def metered(stage, work):
        def run(*args, **kwargs):
            switch(); within.append(stage)
            try: return work(*args, **kwargs)
            finally: switch(); within.pop()
        return run
    photos, model = read_photos(folder).photos[:int(count)], load_model()
    with ExitStack() as stack:
        for stage, names in STAGES.items():
            for name in names:
                stack.enter_context(mock.patch(name, metered(stage, resolve_name(name))))
        embed_all(photos[:1], model, workers=1)
        switch(); spent.update(dict.fromkeys(spent, 0.))
        embed_all(photos, model, workers=1)
        switch()
    return {stage: s / len(photos) for stage, s in spent.items()}

def show_stages(folder: Path, count: int):
    spent = apart('stages', folder, count, one_core=True)
    total = sum(spent.values())
    print(f'where the time goes, ms of one core a photo ({count} photos): {1000 * total:.0f} in all')
    for stage, s in sorted(spent.items(), key=lambda item: -item[1]): print(f'  {stage:13}{1000 * s:7.1f}{s / total:6.0%}')

def hold(folder: str, count: str) -> float:
    from petlost.embed import load_model
    from petlost.photoset import read_photos
    embed_all(read_photos(folder).photos[:int(count)], load_model())
    return peak()

def memory(folder: Path, few: int, many: int):
    little, much = (apart('hold', folder, n) for n in (few, many))
    print(f'peak memory of the default model: {little:.0f} MB for {few} photos, {much:.0f} MB for {many}')

# ---- evaluation

def made_up(n: int, d: int, noise: float=3.) -> tuple[np.ndarray, np.ndarray]:
    "Unit vectors of pets with four photos each, float32 [n, d], and the pets."
    rng, pet = np.random.default_rng(0), np.arange(n) // 4
    v = rng.standard_normal((n // 4 + 1, d), dtype=np.float32)[pet]
    for block in np.array_split(v, 64):
        block += noise * rng.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return v, pet

def spent(work, *args) -> dict:
    "What it gives, with seconds on both clocks and the memory it took beyond what was there."
    before, start = peak(), clocks()
    found = work(*args)
    return dict(found=found, clock=(took := clocks() - start)[0], cpu=took[1], mb=peak() - before)

def our_figures(n: str, d: str) -> dict:
    from petlost.evaluate import retrieval
    def work(v, pet): return {k: i.value for k, i in retrieval(v, pet).mean.items() if k in ('rank1', 'mAP')}
    return spent(work, *made_up(int(n), int(d)))

def their_figures(n: str, d: str, *figures: str) -> dict:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    k = None if 'mean_average_precision' in figures else 'max_bin_count'
    return spent(AccuracyCalculator(include=figures, k=k).get_accuracy, *made_up(int(n), int(d)))

def cost(got: dict) -> str: return f'{got["clock"]:.1f} s, {got["cpu"]:.1f} s of processor time, {got["mb"]:.0f} MB'

def figures_line(name: str, got) -> str:
    if isinstance(got, str): return f'  {name}: {got[:150]}'
    return f'  {name}: {cost(got)}; ' + ', '.join(f'{k} {v:.4f}' for k, v in got['found'].items())

def evaluation(limit_gb: float):
    "Rank-1, mAP and the rest with intervals, beside the calculator of pytorch-metric-learning (faiss)."
    for n, d in ((5_000, 384), (20_000, 2944), (50_000, 384)):
        print(f'evaluation of {n:,} vectors of {d}')
        ours = apart('our_figures', n, d)
        first = apart('their_figures', n, d, 'precision_at_1', 'mean_average_precision_at_r')
        whole = apart('their_figures', n, d, 'precision_at_1', 'mean_average_precision', limit_gb=limit_gb)
        print(figures_line('petlost, all figures and intervals', ours), figures_line('pytorch-metric-learning, the first R neighbours', first),
              figures_line(f'pytorch-metric-learning, the same mAP, with {limit_gb:.0f} GB at most', whole), sep='\n', flush=True)
        theirs = {'pytorch-metric-learning, the first R neighbours': first, 'pytorch-metric-learning, the same mAP': whole}
        keep_figures(f'evaluation of {n:,} vectors of {d:,}, petlost with all intervals', 's of processor time', {'petlost': ours['cpu']} | {name: one['cpu'] for name, one in theirs.items() if isinstance(one, dict)},
                     dict.fromkeys(theirs, versions('pytorch-metric-learning')))
        assert abs(ours['found']['rank1'] - first['found']['precision_at_1']) < 1e-3
        if isinstance(whole, dict): assert abs(ours['found']['mAP'] - whole['found']['mean_average_precision']) < 1e-3

CHILDREN = {work.__name__: work for work in (stages, hold, our_figures, their_figures)}
PARTS = ('pipeline', 'bound', 'stages', 'memory', 'evaluation')

if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument('parts', nargs='*', metavar='PART', help=f'of {", ".join(PARTS)}; by default all')
    options.add_argument('--photos', type=Path, help='a folder of your own photos (JPEG) in place of drawn ones')
    options.add_argument('--count', type=int, default=128, help='photos for Lite0; a quarter for the default model')
    options.add_argument('--memory', type=int, nargs=2, default=(64, 256), metavar=('FEW', 'MANY'))
    options.add_argument('--limit', type=float, default=8, metavar='GB', help='memory that the others may take')
    options.add_argument('--child', help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        part, *args = json.loads(asked.child)
        sys.exit(print(json.dumps(CHILDREN[part](*args))))
    parts = asked.parts or PARTS
    with tempfile.TemporaryDirectory() as folder:
        if {'pipeline', 'bound', 'stages', 'memory'} & set(parts):
            photos = write_photos(Path(folder, 'photos'), max(asked.count, *asked.memory), originals(asked.photos))
        if 'pipeline' in parts: pipeline(photos[:asked.count])
        if 'bound' in parts: bound(photos[:asked.count // 4])
        if 'stages' in parts: show_stages(Path(folder, 'photos'), asked.count // 4)
        if 'memory' in parts: memory(Path(folder, 'photos'), *asked.memory)
    if 'evaluation' in parts: evaluation(asked.limit)
