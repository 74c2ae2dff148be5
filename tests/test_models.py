"""Model folders that are damaged or do not fit together, and photos that nothing can be learnt from: one line each, and nothing half done."""
import json, math, shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from petlost.embed import FORMAT, Part, PetEmbedder, embed_set, open_model, save_model
from petlost.facts import Report
from petlost.photo import open_photo
from petlost.photoset import Photo, PhotoSet, read_photos
from petlost.sample import draw, random_pet, random_shot
from petlost.segment import whole_photo
from running import petlost, said

SHIPPED = Path(find_spec('petlost').origin).parent / 'models' / 'petlost'

@pytest.fixture(scope='module')
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('photo') / 'r' / 'a.jpg'; path.parent.mkdir()
    draw(random_pet(1), random_shot(1), size=96).photo.save(path)
    return path

@pytest.fixture
def tiny(tmp_path) -> Path:
    "The folder of a model that only counts colours, and has a centre."
    folder = tmp_path / 'tiny'; folder.mkdir()
    save_file({'0': np.full(512, .01, np.float32)}, folder / 'centres.safetensors')
    save_model(PetEmbedder('tiny', (Part('colours'),), 512, folder, 'none', centred=True), folder)
    return folder

def rewrite(folder: Path, **facts):
    "Change what model.json says; None takes a line out."
    path = folder / 'model.json'
    known = json.loads(path.read_text()) | facts
    path.write_text(json.dumps({k: v for k, v in known.items() if facts.get(k, '') is not None}))

def vector(model: PetEmbedder, photo: Path) -> np.ndarray:
    picture = open_photo(photo)
    return model([picture], [whole_photo(picture)])[0]

def test_a_sound_model_comes_back_as_it_was(tiny, photo):
    model = open_model(tiny)
    assert (model.name, model.dim, model.files) == ('tiny', 512, ['centres.safetensors']) and model.id == open_model(tiny).id
    assert vector(model, photo).shape == (512,) and abs(np.linalg.norm(vector(model, photo)) - 1) < 1e-5

@pytest.mark.parametrize('name', ['lite0.onnx', 'lite2.onnx', 'weights.safetensors', 'centres.safetensors'])
def test_a_missing_or_altered_file_is_named(tmp_path, name):
    folder = tmp_path / 'model'; folder.mkdir()
    for path in SHIPPED.iterdir(): (folder / path.name).symlink_to(path)
    assert open_model(folder).dim == open_model(SHIPPED).dim
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f'the file {name} is missing'): open_model(folder)
    (folder / name).write_bytes((SHIPPED / name).read_bytes()[:-1] + b'?')
    with pytest.raises(ValueError, match=f'the file {name} has been altered'): open_model(folder)

def test_a_file_outside_the_folder_is_not_read(tiny):
    shutil.copy(tiny / 'centres.safetensors', tiny.parent / 'x.onnx')
    rewrite(tiny, files={'../x.onnx': 'x', 'weights.safetensors': 'x'}, parts=[dict(kind='graph', file='../x.onnx')], centred=False)
    with pytest.raises(ValueError, match='x.onnx is missing'): open_model(tiny)

@pytest.mark.parametrize('version', [FORMAT + 1, 0, None])
def test_another_format_is_refused_by_its_number(tiny, version):
    rewrite(tiny, format=version)
    with pytest.raises(ValueError, match=rf'made by another version of petlost \(format {version}, not {FORMAT}\)'): open_model(tiny)

@pytest.mark.parametrize('text', ['', '{"format": 1', '[1, 2]', 'null', '\x00'])
def test_a_model_json_that_is_no_list_of_facts(tiny, text):
    (tiny / 'model.json').write_text(text)
    with pytest.raises(ValueError, match='tiny'): open_model(tiny)

def one(kind='colours', **facts) -> dict: return dict(parts=[dict(kind=kind, **facts)])

@pytest.mark.parametrize('facts', [
    dict(files=None), dict(files={}), dict(parts=[]), dict(parts=None), dict(parts=3), dict(dim='many'), dict(name=None), dict(segmenter=None),
    one('dream'), one('graph'), one(colour='red'), one(weight='heavy'), one(views=['upside down']), one(views=[])], ids=str)
def test_facts_that_cannot_be_are_refused_when_the_model_is_opened(tiny, facts):
    rewrite(tiny, **facts)
    with pytest.raises(ValueError, match='tiny'): open_model(tiny)

def test_other_dimensions_than_the_parts_give_are_refused(tiny, photo):
    rewrite(tiny, dim=511)
    with pytest.raises(ValueError, match='512.*511'): vector(open_model(tiny), photo)

def test_vectors_that_are_not_numbers_are_refused(tiny, photo):
    save_file({'0': np.full(512, np.nan, np.float32)}, tiny / 'centres.safetensors')
    save_model(PetEmbedder('tiny', (Part('colours'),), 512, tiny, 'none', centred=True), tiny)
    with pytest.raises(ValueError, match='not finite'): vector(open_model(tiny), photo)

def test_a_graph_that_takes_another_size_is_one_line(tmp_path, photo):
    folder = Path(shutil.copytree(SHIPPED, tmp_path / 'model'))
    part = json.loads((folder / 'model.json').read_text())['parts'][0]
    rewrite(folder, dim=1280, centred=False, segmenter='none', parts=[part | dict(views=['whole'])])
    assert vector(open_model(folder), photo).shape == (1280,)
    rewrite(folder, parts=[part | dict(views=['whole'], size=100)])
    with pytest.raises(ValueError, match='lite0.onnx: does not take this input'): vector(open_model(folder), photo)

def test_the_commands_say_it_in_one_line_and_write_nothing(tiny, photo, tmp_path):
    rewrite(tiny, dim=511)
    embedded = petlost('embed', photo.parents[1], '--out', tmp_path / 'v.npz', '--model', tiny)
    rewrite(tiny, parts=[], dim=512)
    indexed = petlost('index', photo.parents[1], '--to', tmp_path / 'catalogue', '--model', tiny)
    for done in (embedded, indexed): assert done.returncode == 1 and 'Traceback' not in done.stderr and 'petlost: ' in done.stderr.splitlines()[-1]
    assert not (tmp_path / 'v.npz').exists() and not (tmp_path / 'catalogue').exists()

def copies(photo: Path, folder: Path, n: int) -> Path:
    "So many reports of one photo, each file another."
    for i in range(n): (folder / f'{i:03d}').mkdir(parents=True); (folder / f'{i:03d}' / 'a.jpg').write_bytes(photo.read_bytes() + bytes([i]))
    return folder

def test_one_corrupt_photo_in_two_hundred(photo, tmp_path):
    photos = copies(photo, tmp_path / 'photos', 200)
    (photos / '117' / 'a.jpg').write_bytes(photo.read_bytes()[:40])
    done = petlost('embed', photos, '--out', tmp_path / 'v.npz', '--model', 'colour-histogram')
    kept = np.load(tmp_path / 'v.npz')
    assert done.returncode == 0 and '199 photos embedded, 1 skipped' in done.stdout
    assert [line.split(':')[0] for line in said(done) if line.startswith('skipped')] == ['skipped 117/a.jpg']
    assert kept['paths'].tolist() == [f'{i:03d}/a.jpg' for i in range(200) if i != 117] and kept['vectors'].shape == (199, 512)
    assert np.allclose(np.linalg.norm(kept['vectors'], axis=1), 1, atol=1e-5)

def test_a_set_without_one_readable_photo_names_the_first_fault(tmp_path):
    (tmp_path / 'r').mkdir(); (tmp_path / 'r' / 'a.jpg').write_bytes(b'\xff\xd8\xff nothing')
    with pytest.raises(ValueError, match='no photo can be read; the first fault: r/a.jpg: '):
        embed_set(read_photos(tmp_path), PetEmbedder('colours', (Part('colours'),), 512, segmenter='none'))

def single_photos(path: Path) -> PhotoSet:
    return PhotoSet(path.parent, [Photo(f'{i}/a.jpg', path, str(i)) for i in range(12)], {str(i): Report(str(i)) for i in range(12)})

def test_pets_with_one_photo_each_are_nothing_to_learn_from(photo, tmp_path):
    from petlost.triplet_train import Schedule, train
    with pytest.raises(ValueError, match='no pet has two photos'): train(single_photos(photo), tmp_path / 'm', Schedule(size=32), progress=False)
    assert not (tmp_path / 'm').exists()

def test_the_frozen_schedule_refuses_them_before_it_writes_a_model(photo, tmp_path, capsys):
    from petlost.cli import main # in this process: torch is there already
    with pytest.raises(SystemExit) as stop: main(['train', str(copies(photo, tmp_path / 'p', 3)), '--out', str(tmp_path / 'm'), '--schedule', 'frozen'])
    assert stop.value.code == 1 and 'same pet' in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / 'm').exists()

@pytest.mark.parametrize('lr', [0., -1., math.nan, math.inf])
def test_a_rate_that_is_no_rate(lr):
    from petlost.triplet_train import Schedule
    with pytest.raises(ValueError, match='lr'): Schedule(lr=lr)
