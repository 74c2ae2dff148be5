"""What each rung of the ladder gives, judged on sources that the rung has not seen: `make ablation PHOTOS=FOLDER`, or
`python benchmarks/ablation.py --photos FOLDER --out FOLDER [--sources A,B,C] [--size 224] [--only NAME]`.

Whatever is fitted or trained is fitted three times, each time without one of the sources that may be trained on, and that source is judged
by the model that has not seen it. Sources that nobody trains on are judged by the model that was trained without the smallest. All
photos are in the gallery. Vectors of a finished rung lie in OUT and are not made again; a training run that was
stopped goes on from its last epoch. The table is written to OUT/ablation.csv after each rung. Hours on two cores."""
import argparse, csv, re, shutil
from pathlib import Path
import numpy as np
from petlost.backbone import PACKAGED, create_backbone, export_graphs
from petlost.embed import BESIDE, Part, PetEmbedder, embed_set, load_model, unit
from petlost.evaluate import compare, retrieval, source_by_source
from petlost.photoset import PhotoSet, read_photos
from petlost.triplet_train import DISTIL, Schedule, train

VIEWS = ('whole', 'crop', 'isolated')
LAST = dict(keep_best=False, interpolate=False) # what training does, not what a careful schedule hands out
TRIPLETS = dict(LAST, neck_epochs=0, classify_epochs=0, metric_epochs=6)
TRAINED = {
    'linear head on the frozen backbone': dict(LAST, dim=512, unfreeze=0, neck_epochs=8, classify_epochs=0, metric_epochs=0),
    'classification': dict(LAST, classify_epochs=6, metric_epochs=0),
    'triplets': TRIPLETS,
    'classification, then triplets': LAST,
    'multi-similarity': dict(TRIPLETS, loss='multi_similarity'),
    'distilled from petlost, then triplets': TRIPLETS | dict(DISTIL, metric_epochs=6),
    'triplets, best on held-out pets, way back': dict(TRIPLETS, keep_best=True, interpolate=True),
    'triplets, and 100 drawn pets': dict(TRIPLETS, drawn=100),
    'distilled from petlost': dict(LAST, **DISTIL),
    'triplets, sources as they are': dict(TRIPLETS, balance=0.),
    'triplets, the start as a guard': dict(TRIPLETS, guard=1.),
    'triplets, average of the weights': dict(TRIPLETS, ema=.98),
    'SupCon with memory': dict(TRIPLETS, loss='supcon', memory=512),
} # rung -> how it differs from the default schedule

# ---- rungs without training

def part_vectors(photoset: PhotoSet, out: Path) -> tuple[dict, list]:
    "Vectors of each backbone on each view, of the transformer's block and of colours, float32 [n, d] by name; and the photos."
    keep = out / 'parts.npz'
    if not keep.exists():
        networks = {f'lite{i}': create_backbone(backbone) for i, backbone in enumerate(PACKAGED)}
        dims = export_graphs({name: (module, facts['size']) for name, (module, facts) in networks.items()}, out / 'graphs')
        parts = {f'{name} {view}': Part('graph', (view,), file=f'{name}.onnx', **facts) for name, (_, facts) in networks.items() for view in VIEWS}
        lengths = [*np.repeat(dims, len(VIEWS)), 384, 512]
        parts |= {'block whole': Part('feature', feature='middle'), 'colours whole': Part('colours')}
        everything = PetEmbedder('all parts', tuple(parts.values()), int(sum(lengths)), out / 'graphs')
        rows, photos, _ = embed_set(photoset, everything, progress=True)
        pieces = np.split(rows, np.cumsum(lengths)[:-1], axis=1)
        np.savez(keep, photos=[p.name for p in photos], **{name: unit(piece).astype(np.float16) for name, piece in zip(parts, pieces)})
    kept = np.load(keep)
    at = {p.name: p for p in photoset.photos}
    return {name: unit(kept[name].astype(np.float32)) for name in kept if name != 'photos'}, [at[name] for name in kept['photos'].tolist()]

def centred(x: np.ndarray, source: np.ndarray, fit: list[str]) -> np.ndarray:
    "Without the mean over the sources to fit on, each counting the same."
    return unit(x - np.mean([x[source == s].mean(0) for s in fit], axis=0))

def whitened(x: np.ndarray, source: np.ndarray, fit: list[str], shrink: float=.1) -> np.ndarray:
    "Centred, and scaled along the principal directions of the sources to fit on; variances are shrunk towards their mean."
    x = centred(x, source, fit)
    values, axes = np.linalg.eigh(np.cov(x[np.isin(source, fit)].T))
    return unit(x @ axes / np.sqrt((1 - shrink) * values.clip(0) + shrink * values.mean())).astype(np.float32)

def fused(v: dict, source: np.ndarray, fit: list[str], parts: dict[tuple, float]) -> np.ndarray:
    "Parts side by side: names whose mean is taken -> weight."
    return unit(np.concatenate([weight * centred(unit(sum(v[name] for name in names)), source, fit) for names, weight in parts.items()], axis=1))

def views(name: str, *which: str) -> tuple: return tuple(f'{name} {view}' for view in which or VIEWS)

FUSED = {
    'Lite0, whole, centred': {views('lite0', 'whole'): 1},
    'Lite0, crop': {views('lite0', 'crop'): 1},
    'Lite0, isolated': {views('lite0', 'isolated'): 1},
    'Lite0, whole + crop + isolated': {views('lite0'): 1},
    "transformer's middle block": {('block whole',): 1},
    'Lite0 + middle block': {views('lite0', 'whole'): 1, ('block whole',): BESIDE},
    'Lite1, whole': {views('lite1', 'whole'): 1},
    'Lite2, whole': {views('lite2', 'whole'): 1},
    'Lite0 + Lite2, whole': {views('lite0', 'whole'): 1, views('lite2', 'whole'): 1},
    'Lite0 + Lite1 + Lite2, all views, block': {views('lite0'): 1, views('lite1'): 1, views('lite2'): 1, ('block whole',): BESIDE},
    'petlost: Lite0 crop + isolated, Lite2 whole, block': {views('lite0', 'crop', 'isolated'): 1, views('lite2', 'whole'): 1, ('block whole',): BESIDE},
} # rung -> its parts and their weights

# ---- rungs with training

def trained_vectors(photoset: PhotoSet, fit: list[str], photos: list, schedule: Schedule, folder: Path) -> np.ndarray:
    "Vectors of all photos by a model trained on some sources; kept, and the model removed."
    keep = folder.with_suffix('.npy')
    if not keep.exists():
        some = PhotoSet(photoset.root, [p for p in photoset.photos if p.source in fit], photoset.reports)
        train(some, folder, schedule, resume=True)
        found, seen, _ = embed_set(PhotoSet(photoset.root, photos, photoset.reports), load_model(folder), progress=True)
        if [p.name for p in seen] != [p.name for p in photos]: raise ValueError('the photos changed while the ablation ran')
        np.save(keep, found.astype(np.float16))
        shutil.rmtree(folder)
    return unit(np.load(keep).astype(np.float32))

# ---- the table

def main(photos: Path, out: Path, sources: list[str], size: int, only: str):
    out.mkdir(parents=True, exist_ok=True)
    photoset = read_photos(photos)
    v, seen = part_vectors(photoset, out)
    source, labels, scenes = np.array([p.source or '' for p in seen]), [photoset.pet(p) for p in seen], [p.scene for p in seen]
    smallest = min(sources, key=lambda s: (source == s).sum())
    folds = {left_out: [s for s in sources if s != left_out] for left_out in sources}
    def figures(vectors): return retrieval(vectors, labels, list(source), scenes)
    def judged(make):
        by_fold = {left_out: figures(make(left_out, fit)) for left_out, fit in folds.items()}
        return source_by_source({s: by_fold.get(s, by_fold[smallest]) for s in by_fold[smallest].sums})
    floor = figures(v['lite0 whole'])
    rungs = {'colour histogram': lambda: figures(v['colours whole']), 'Lite0, whole': lambda: floor,
             'Lite0, whole, whitened': lambda: judged(lambda _, fit: whitened(v['lite0 whole'], source, fit))}
    rungs |= {name: lambda parts=parts: judged(lambda _, fit: fused(v, source, fit, parts)) for name, parts in FUSED.items()}
    for name, facts in TRAINED.items():
        if size != 224: name = f'{name}, {size} px'
        def rung(facts=facts, folder=out / re.sub(r'\W+', '-', name)):
            return judged(lambda left_out, fit: trained_vectors(photoset, fit, seen, Schedule(size=size, **facts), folder / f'without-{left_out}'))
        rungs[name] = rung
    rows = []
    for name, judge in rungs.items():
        if only and only not in name: continue
        found = judge()
        gain = compare(found, floor)
        rows.append(dict(rung=name) | {m: str(found.mean[m]) for m in ('rank1', 'cross_rank1', 'mAP')} | {f'gain {m}': str(gain[m]) for m in ('cross_rank1', 'mAP')})
        print('  '.join(rows[-1].values()), flush=True)
        with open(out / 'ablation.csv', 'w', newline='', encoding='utf-8') as f:
            table = csv.DictWriter(f, rows[0]); table.writeheader(); table.writerows(rows)

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument('--photos', type=Path, required=True, help='labelled photos with sources and scenes')
    asked.add_argument('--out', type=Path, default=Path('ablation'), help='what is kept between runs, and the table')
    asked.add_argument('--sources', default='mpdd,catfaces_roma,dreambooth', help='those that may be trained on')
    asked.add_argument('--size', type=int, default=224, help='side of the photo in the trained rungs, pixels')
    asked.add_argument('--only', default='', help='only rungs with this in their name')
    told = asked.parse_args()
    main(told.photos, told.out, told.sources.split(','), told.size, told.only)
