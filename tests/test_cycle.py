"""The cycle from end to end: killed anywhere it goes on and ends as if it had not been; two at once; a worse candidate; the way back; a report that is deleted."""
import json, shutil, signal, subprocess, time
from pathlib import Path

import numpy as np, pytest

from petlost.adapter import Adapter
from petlost.embed import adapted_model, open_model
from petlost.lineage import only_cycle, read_lineage
from petlost.photoset import read_photos
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from petlost.store import Store
from running import PETLOST, petlost, said

@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    "A catalogue of 60 drawn pets with four photos each."
    root = tmp_path_factory.mktemp('cycle')
    index_photos(read_photos(sample_catalogue(root / 'photos', n_pets=60, photos=4, seed=8)), root / 'c', 'petlost-fast')
    return root / 'c'

@pytest.fixture
def catalogue(filled, tmp_path): return Path(shutil.copytree(filled, tmp_path / 'c'))

def vectors(folder):
    with Store.open(folder) as store: return store.vectors()[0]

def adapters(folder): return {path.parent.name: path.read_bytes() for path in folder.glob('model*/adapter.safetensors')}

def kill(catalogue, step, *args) -> bool: # was it still at work?
    "Run a command and kill it as soon as this file is there."
    run = subprocess.Popen([PETLOST, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while run.poll() is None and not list(catalogue.glob(step)): time.sleep(.001)
    at_work = run.poll() is None
    if at_work: run.send_signal(signal.SIGKILL)
    run.communicate()
    return at_work

STEPS = ('plan.json', 'neighbours/*', 'training/*', 'candidate/model.json', 'decided.json') # what appears in the work folder, in this order

def test_killed_anywhere_it_ends_as_if_it_had_not_been(catalogue, tmp_path):
    whole = Path(shutil.copytree(catalogue, tmp_path / 'whole'))
    assert petlost('cycle', whole).returncode == 0
    killed = 0
    for step in STEPS * 2:
        killed += kill(catalogue, f'cycle/{step}', 'cycle', catalogue)
        if read_lineage(catalogue): break
    left = catalogue / 'cycle' / 'plan.json'
    done = petlost('cycle', catalogue) if left.exists() or not read_lineage(catalogue) else None
    assert killed >= 4 and (done is None or done.returncode == 0)
    ours, theirs = read_lineage(catalogue), read_lineage(whole)
    assert [(r['did'], r['parent'], r['candidate'], r['learnt']) for r in ours] == [(r['did'], r['parent'], r['candidate'], r['learnt']) for r in theirs]
    assert adapters(catalogue) == adapters(whole) and not left.exists()
    assert np.array_equal(vectors(catalogue), vectors(whole))

def test_two_at_once_refuse(catalogue):
    with only_cycle(catalogue): done = petlost('cycle', catalogue)
    assert done.returncode == 1 and said(done) == [f'petlost: {catalogue}: another cycle is at work on this catalogue']

def candidate(catalogue, folder, rows, strength):
    "A model that has lost most of what tells these photos apart."
    x = vectors(catalogue)[rows]
    axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:48].astype('f4')
    return adapted_model(open_model(catalogue / 'model'), Adapter(axes.T.copy(), -strength * axes), folder, 'worse', open_model(catalogue / 'model').calibration).folder

def test_a_worse_candidate_is_refused_and_the_slice_named(catalogue, tmp_path):
    with Store.open(catalogue) as store: cats = np.array([store.report(r).species == 'cat' for r, _ in store.vectors()[1]])
    worse = candidate(catalogue, tmp_path / 'worse', cats, .9)
    before = vectors(catalogue)
    done = petlost('cycle', catalogue, '--candidate', worse, '--json')
    record = json.loads(done.stdout)
    failed = [c['name'] for c in record['decision']['checks'] if not c['passed']]
    assert done.returncode == 0 and record['did'] == 'refused' and 'slice species: cat' in failed
    assert np.array_equal(before, vectors(catalogue)) and not list(catalogue.glob('model-*'))

def knowing(catalogue, folder):
    "A model without the directions in which photos of one pet differ, those of the exam too: it passes."
    before, first = vectors(catalogue), open_model(catalogue / 'model')
    with Store.open(catalogue) as store: of = [store.report(r).pet for r, _ in store.vectors()[1]]
    pet = np.unique(of, return_inverse=True)[1]
    means = np.stack([before[pet == p].mean(0) for p in range(pet.max() + 1)])
    axes = np.linalg.svd(before - means[pet], full_matrices=False)[2][:32].astype('f4')
    return adapted_model(first, Adapter(axes.T.copy(), -.8 * axes), folder, 'knowing', first.calibration).folder

def test_the_way_back(catalogue, tmp_path):
    before = vectors(catalogue)
    assert petlost('cycle', catalogue, '--candidate', knowing(catalogue, tmp_path / 'knowing')).returncode == 0
    assert read_lineage(catalogue)[-1]['did'] == 'released' and (vectors(catalogue) * before).sum(1).min() < .99
    done = petlost('rollback', catalogue)
    assert done.returncode == 0 and [r['did'] for r in read_lineage(catalogue)] == ['released', 'rolled back']
    assert (vectors(catalogue) * before).sum(1).min() > .9999
    again = petlost('rollback', catalogue)
    assert again.returncode == 1 and 'was not released by a cycle' in again.stderr

def test_killed_in_a_release_and_on_the_way_back(catalogue, tmp_path):
    before, candidate = vectors(catalogue), knowing(catalogue, tmp_path / 'knowing')
    assert kill(catalogue, 'cycle/decided.json', 'cycle', catalogue, '--candidate', candidate) and not read_lineage(catalogue)
    assert kill(catalogue, 'model-2/model.json', 'cycle', catalogue) and not read_lineage(catalogue)
    halted = petlost('rollback', catalogue)
    assert halted.returncode == 1 and 'a release was interrupted; finish it with petlost cycle first' in halted.stderr
    assert petlost('cycle', catalogue).returncode == 0
    assert [r['did'] for r in read_lineage(catalogue)] == ['released'] and not (catalogue / 'cycle').exists()
    assert (vectors(catalogue) * before).sum(1).min() < .99
    assert kill(catalogue, 'cycle/rollback.json', 'rollback', catalogue)
    halted = petlost('cycle', catalogue)
    assert halted.returncode == 1 and 'a rollback was interrupted; finish it first' in halted.stderr
    assert petlost('rollback', catalogue).returncode == 0 and [r['did'] for r in read_lineage(catalogue)] == ['released', 'rolled back']
    assert (vectors(catalogue) * before).sum(1).min() > .9999

def naming(report, *folders):
    "Files that name a report, in whatever way."
    return sorted(path.name for folder in folders for path in folder.rglob('*') if path.is_file() and report.encode() in path.read_bytes())

def test_a_removed_report_leaves_no_trace_and_the_cycle_goes_on(catalogue, tmp_path):
    with Store.open(catalogue) as store: report, other = (store.vectors()[1][i][0] for i in (0, -1))
    assert petlost('mine', catalogue, '--out', tmp_path / 'mined').returncode == 0
    (tmp_path / 'said.csv').write_text(f'report,other,said,reviewer\n{report},{other},different,Nora\n')
    assert petlost('verdicts', catalogue, '--add', tmp_path / 'said.csv').returncode == 0
    sample_catalogue(tmp_path / 'photo', n_pets=1, photos=2)
    assert petlost('keep', catalogue, next((tmp_path / 'photo').rglob('*.jpg')), '--match', report, '--consent', 'Nora, today, to replay it').returncode == 0
    assert kill(catalogue, 'cycle/candidate/model.json', 'cycle', catalogue) and (catalogue / 'cycle' / 'plan.json').exists()
    assert {'catalogue.db', 'hard_negatives.csv', 'training_set.csv', 'ledger_reports.csv', 'queries.csv'} <= set(naming(report, catalogue, tmp_path / 'mined'))
    assert petlost('remove', catalogue, report).returncode == 0
    assert naming(report, catalogue, tmp_path / 'mined') == [] and not list((catalogue / 'queries').glob('*.jpg'))
    assert petlost('cycle', catalogue).returncode == 0 and read_lineage(catalogue)[-1]['learnt']['ledger']
    assert naming(report, catalogue, tmp_path / 'mined') == []
