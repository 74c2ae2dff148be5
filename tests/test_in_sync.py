"Modules, notebooks and README say the same: checked in a copy, so that a working tree with changes in it can be tested."
import filecmp, os, re, shutil, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the project, exported and cleaned anew."
    there = tmp_path_factory.mktemp('sync') / 'petlost'
    there.mkdir()
    for name in ('settings.ini', 'setup.py', 'README.md', 'Makefile'): shutil.copy(ROOT / name, there)
    for name in ('nbs', 'petlost'): shutil.copytree(ROOT / name, there / name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for module in (there / 'petlost').glob('*.py'):
        if module.name != '__init__.py': module.unlink()
    env = dict(os.environ, PATH=f'{BIN}:{os.environ["PATH"]}')
    subprocess.run(['git', 'init', '-q'], cwd=there, check=True)
    for command in ('nbdev_export', 'nbdev_clean'): subprocess.run([command], cwd=there, env=env, check=True)
    subprocess.run(['make', '-s', 'README.md', '-B', '-o', '.venv/dev'], cwd=there, env=env, check=True, capture_output=True)
    return there

def names(folder, ending): return sorted(p.name for p in folder.glob(f'*{ending}'))

@pytest.mark.parametrize('folder, ending', [('petlost', '.py'), ('nbs', '.ipynb'), ('nbs/tutorials', '.ipynb'), ('nbs/explanations', '.ipynb')])
def test_what_is_there_is_what_the_notebooks_make(copy, folder, ending):
    assert names(ROOT / folder, ending) == names(copy / folder, ending)
    _, differ, broken = filecmp.cmpfiles(ROOT / folder, copy / folder, names(copy / folder, ending), shallow=False)
    assert not differ + broken, f'out of sync, run `make sync`: {differ + broken}'

def test_readme_is_made_from_index(copy):
    assert (ROOT / 'README.md').read_text() == (copy / 'README.md').read_text(), 'run `make sync`'

def test_every_notebook_has_been_run():
    for path in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        text = path.read_text(encoding='utf-8')
        assert '"output_type": "error"' not in text, f'{path.name} holds an error'
        assert '"outputs": [\n' in text or path.name.startswith('00b'), f'{path.name} shows nothing: run it before it is committed'

def test_version_is_one():
    version = re.search(r'^version = (\S+)', (ROOT / 'settings.ini').read_text(), re.M)[1]
    assert f'__version__ = "{version}"' in (ROOT / 'petlost/__init__.py').read_text()
    assert f'## {version}' in (ROOT / 'CHANGELOG.md').read_text()
