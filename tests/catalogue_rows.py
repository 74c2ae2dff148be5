"""Rows for catalogue tests; imported by the tests and by the processes they start, so it imports little."""
import numpy as np

from petlost.facts import Report
from petlost.index import Catalogue, CatalogueError, PhotoRow

MODEL = dict(name='random', id='r', dim=16, calibration=None)

class Low(Catalogue):
    "Searches in two stages when it holds more than eight photos."
    exact_bytes = 8 * 2 * MODEL['dim']

def vector(key):
    "The vector of a photo follows from its key, in every process."
    return np.random.default_rng(int(key)).standard_normal(16)

def mask(key): return b'mask of %d' % int(key)

def photo(report, key, thumbnail=b'jpeg'): return PhotoRow(report, f'{key}.jpg', str(key), vector(key), thumbnail, mask=mask(key), segmenter='s1')
