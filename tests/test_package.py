"Archives: whom they don't name, what they must answer, and an image that runs where nothing may be written."
import json, os, shutil, signal, subprocess, sys, time
from base64 import b64decode
from pathlib import Path
from urllib.request import urlopen

import pytest
from running import petlost

from petlost.facts import Report
from petlost.image import STEPS, _ask, _Trial, write_image
from petlost.index import Catalogue
from petlost.inbox import leave
from petlost.package import LIKE, _write_archive, package, private_rows, unpack
from petlost.photoset import read_photos
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from petlost.verdicts import Shown, Verdict
from petlost.watch import Standing

PEOPLE = ('Wilhelmina', 'Ferdinand', 'Josephine', 'Philippa', 'Tybalt', 'call-0155-512')


@pytest.fixture(scope='module')
def catalogue(tmp_path_factory):
    "Reports that people have judged, waited for, named and removed."
    root = tmp_path_factory.mktemp('package')
    sample_catalogue(root / 'photos', n_pets=8, photos=2)
    index_photos(read_photos(root / 'photos'), root / 'c', 'petlost-fast')
    with Catalogue.open(root / 'c', write=True) as cat:
        ids = list(cat.reports())
        cat.add_verdicts([Verdict(ids[0], ids[1], 'same', 'Wilhelmina', '2026-03-04T10:00:00Z')])
        cat.add_shown([Shown(ids[0], (ids[1], ids[2]), '2026-03-04T09:00:00Z', cat.model['id'])])
        cat.stand(Standing('Philippa waits', dict(species='cat'), least=0., report=ids[2]))
        cat.match()
        cat.update([Report(ids[3], pet='Tybalt')])
        cat.add([Report('call-0155-512')], [])
        cat.remove('call-0155-512')
    leave(root / 'c', [Verdict(ids[0], ids[2], 'same', 'Josephine', '2026-03-05T10:00:00Z')])
    (root / 'c' / 'note.txt').write_text('Ferdinand was here')
    return root / 'c'


@pytest.fixture(scope='module')
def archive(catalogue): return package(None, catalogue.parent / 'model.tar.gz', catalogue)


def named(folder):
    data = b''.join(p.read_bytes() for p in folder.rglob('*') if p.is_file()).lower()
    return [who for who in PEOPLE if any(who.lower().encode(code) in data for code in ('utf-8', 'utf-16-le', 'utf-16-be'))]


def test_no_person_is_named_in_an_archive(catalogue, archive, tmp_path):
    assert set(named(catalogue)) >= {'Wilhelmina', 'Ferdinand', 'Josephine', 'Philippa', 'Tybalt'}, 'the search for names finds nothing'
    folder = unpack(archive, tmp_path / 'out')
    assert named(folder) == [] and private_rows(folder) == 0
    assert {p.name for p in (folder / 'catalogue').iterdir()} == {'catalogue.db', 'model'}


def test_packing_takes_nothing_from_the_catalogue(catalogue, tmp_path):
    with Catalogue.open(catalogue) as cat: before = cat.verdicts(), cat.shown(), cat.reports(), cat.count()
    package(None, tmp_path / 'm.tar.gz', catalogue)
    with Catalogue.open(catalogue) as cat: assert (cat.verdicts(), cat.shown(), cat.reports(), cat.count()) == before
    assert before[0] and before[1] and 'Josephine' in named(catalogue)


def test_the_same_catalogue_gives_the_same_archive_in_another_process(catalogue, archive, tmp_path):
    done = petlost('package', '--in', catalogue, '--out', tmp_path / 'm.tar.gz')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'm.tar.gz').read_bytes() == archive.read_bytes()


def try_out(archive, tmp_path, change=None):
    "The steps of a trial in this environment in place of an empty one; the names of those passed and the last one's fault."
    trial, passed = _Trial(archive, tmp_path / 'trial'), []
    trial.temp.mkdir()
    if change:
        changed = unpack(archive, tmp_path / 'changed')
        change(changed)
        (changed / 'manifest.json').unlink()
        _write_archive(changed, tmp_path / 'changed.tar.gz')
        trial.archive = tmp_path / 'changed.tar.gz'
    (trial.temp / 'venv').symlink_to(sys.prefix)
    try:
        for name, step in STEPS.items():
            if name == 'installs from its list': continue
            try: step(trial)
            except ValueError as e: return passed, f'{name}: {e}'
            passed.append(name)
    finally:
        if trial.process and trial.process.poll() is None: trial.process.kill(); trial.process.wait()
    return passed, None


def test_a_good_archive_passes(archive, tmp_path): assert try_out(archive, tmp_path) == ([name for name in STEPS if name != 'installs from its list'], None)


def edit_golden(key, change):
    def edit(folder):
        golden = json.loads((folder / 'golden.json').read_text())
        golden[-1][key] = change(golden[-1][key])
        (folder / 'golden.json').write_text(json.dumps(golden))
    return edit


def in_script(old, new):
    def edit(folder):
        script = folder / 'code' / 'inference.py'
        assert old in script.read_text()
        script.write_text(script.read_text().replace(old, new))
    return edit


@pytest.mark.parametrize('change, said', [
    (lambda f: (f / 'golden.json').write_text('[]'), 'answers: no golden request'),
    (edit_golden('report', lambda _: 'another'), 'answers: golden request 5: '),
    (edit_golden('score', lambda score: score - 2 * LIKE), 'answers: golden request 5: '),
    (in_script('verify(folder)', 'raise SystemExit("no key")'), 'starts: exit 1: no key'),
    (in_script('    serve(', '    (folder / "cache.bin").write_bytes(b"x"); serve('), 'writes nothing of its own: it wrote cache.bin'),
    (in_script('    serve(', '    import atexit; atexit.register(os._exit, 3); serve('), 'stops: exit 3 after SIGTERM')])
def test_bad_archives_do_not_pass(archive, tmp_path, change, said):
    passed, fault = try_out(archive, tmp_path, change)
    assert fault and fault.startswith(said), (passed, fault)


def test_an_archive_without_a_catalogue_is_not_served(tmp_path):
    assert try_out(package('colour-histogram', tmp_path / 'm.tar.gz'), tmp_path)[1] == 'is silent about people: no catalogue in it, so there is nothing to serve'


READ_ONLY = '''set -e
mount --bind $1 $1; mount -t proc proc $1/proc; mount --rbind /dev $1/dev; mount --bind $2 $1/opt/ml/model; mount -o remount,ro,bind $1/opt/ml/model; mount -t tmpfs tmpfs $1/tmp; mount -o remount,ro,bind $1
! touch $1/x 2>/dev/null
exec chroot --userspec=10001 $1 /usr/bin/env -i PATH=/opt/petlost/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp SAGEMAKER_BIND_TO_PORT=$3 serve'''

@pytest.mark.skipif(not (shutil.which('buildah') and os.environ.get('PETLOST_BASE') and os.getuid() == 0), reason='needs root, buildah and PETLOST_BASE, a base image with Python 3.11')
def test_the_image_is_built_and_serves_where_nothing_may_be_written(archive, tmp_path):
    write_image(tmp_path / 'image')
    run = lambda *args: subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip()
    run('buildah', 'build', '--format', 'docker', '--isolation', 'chroot', '--network', 'host', '--build-arg', f'BASE={os.environ["PETLOST_BASE"]}', '-t', 'petlost-test', str(tmp_path / 'image'))
    container, folder, port = run('buildah', 'from', 'petlost-test'), unpack(archive, tmp_path / 'model'), '18731'
    for path in [*tmp_path.parents[:2], tmp_path, folder, *folder.rglob('*')]: path.chmod(0o755 if path.is_dir() else 0o644)
    root = run('buildah', 'mount', container)
    (Path(root) / 'opt/ml/model').mkdir(parents=True)
    server = subprocess.Popen(['unshare', '-m', 'sh', '-c', READ_ONLY, 'sh', root, folder, port], start_new_session=True)
    try:
        end = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < end:
            try: urlopen(f'http://127.0.0.1:{port}/ping').close(); break
            except OSError: time.sleep(.2)
        assert 'Uid:\t10001' in Path(f'/proc/{server.pid}/status').read_text()
        trial = _Trial(archive, tmp_path, server, int(port))
        for wanted in json.loads((folder / 'golden.json').read_text()):
            status, body = _ask(trial, b64decode(wanted['photo']), 'image/jpeg')
            assert status == 200 and json.loads(body)[0]['report'] == wanted['report']
        server.send_signal(signal.SIGTERM)
        assert server.wait(40) == 0
    finally:
        server.kill(); server.wait()
        subprocess.run(['buildah', 'rm', container], capture_output=True)
