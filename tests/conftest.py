"Real photos, where there are any: they are not part of the repository, and every test passes without them."
from pathlib import Path
import pytest
from running import PHOTOS

def pytest_addoption(parser):
    parser.addoption('--fuzz', type=int, default=6000, help='how many damaged photos are tried; other ones each time above the default')
    parser.addoption('--overload', type=float, default=6, help='seconds for which the service is asked ten times too much')

@pytest.fixture(scope='session')
def real_photos() -> Path:
    "The folder of development photos: `PETLOST_PHOTOS`, or `shared/photos` beside the checkout."
    if not PHOTOS.is_dir(): pytest.skip('no real photos here')
    return PHOTOS

@pytest.fixture(scope='session')
def drawn(tmp_path_factory) -> Path:
    "The list of a small drawn catalogue: 8 pets, each with a lost and a found report of one photo."
    from petlost.sample import sample_catalogue
    return sample_catalogue(tmp_path_factory.mktemp('drawn'), n_pets=8, photos=2, seed=5)
